"""`python -m nnunet_xlstm` is the command `nnunet_xlstm`."""

import sys

from nnunet_xlstm.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
