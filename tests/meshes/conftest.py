"""VTK and triton both bring LLVM: a process that loads triton after it has drawn with VTK ends by SIGSEGV."""

import contextlib

with contextlib.suppress(ImportError):
    import triton  # noqa: F401
