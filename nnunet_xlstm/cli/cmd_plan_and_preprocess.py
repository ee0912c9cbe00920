"""`python -m nnunet_xlstm plan_and_preprocess`: the stock command, with our planners found without registration."""


def run(arguments: list[str]) -> int:
    """Run the stock command; return the exit code."""
    from nnunet_xlstm.nnunet.install import registration

    registration.nnunetv2_folder()  # a clear error if nnunetv2 is not installed
    registration.stock_plan_and_preprocess(arguments)
    return 0
