"""The mLSTM cell (matrix memory, exponential input gate) in three forms that agree.

Equations: Beck et al., "xLSTM: Extended Long Short-Term Memory" (2024), section 2.3 and appendix A; chunkwise form:
Beck et al., "Tiled Flash Linear Attention" (2025). Written from the equations.

    C_t = f_t C_{t-1} + i_t k_t v_t^T      n_t = f_t n_{t-1} + i_t k_t      f = sigmoid(fgate), i = exp(igate)
    h_t = C_t^T q'_t / max(|n_t . q'_t|, 1)                                 q' = q / sqrt(DQK)

Everything is kept divided by exp(m_t), with m_t = max(log f_t + m_{t-1}, igate_t), m_0 = 0, so that nothing overflows;
the denominator becomes max(|n . q'|, exp(-m_t)) + eps. Because m cancels (exactly for eps = 0, to 1e-6 otherwise), all
forms treat it as a constant in the backward pass.

Letters: B batch, NH heads, H = B * NH, S tokens, L chunk length, N chunks, DQK and DV widths of q, k and of v.
"""

import importlib.util

import torch
import torch.nn.functional as F
from torch import Tensor

from nnunet_xlstm.layers.amp import no_autocast
from nnunet_xlstm.layers.chunkwise import PAD_GATE, chunkwise

BACKENDS = ("auto", "parallel", "chunkwise", "recurrent", "nxai")
PARALLEL_UP_TO = 1024  # tokens; `auto` takes the chunkwise form above
PARALLEL_UP_TO_ON_CPU = 256  # no kernel launches to save: chunks are faster from here on, and more exact
_HAS_NXAI = importlib.util.find_spec("mlstm_kernels") is not None


def mlstm(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    igate: Tensor,
    fgate: Tensor,
    *,
    backend: str = "auto",
    chunk_size: int | None = None,
    eps: float = 1e-6,
) -> Tensor:
    """Run the mLSTM cell over a sequence.

    Args:
        q: Queries (B, NH, S, DQK), not yet scaled.
        k: Keys (B, NH, S, DQK).
        v: Values (B, NH, S, DV).
        igate: Input gate pre-activations (B, NH, S).
        fgate: Forget gate pre-activations (B, NH, S).
        backend: One of `BACKENDS`. `auto`: parallel up to `PARALLEL_UP_TO` tokens (fewer on a CPU), chunkwise above (on
            CUDA the optional package `mlstm_kernels` for inference, where installed and the widths suit it).
        chunk_size: Tokens per chunk of the chunkwise form; None: 64 on CPU, 128 elsewhere.
        eps: Added to the stabilized denominator.

    Returns:
        Hidden states (B, NH, S, DV), float32 (float64 for float64 input) whatever autocast says.

    Raises:
        ValueError: For an unknown backend or shapes that do not fit.
        ImportError: For `backend="nxai"` without the package.
    """
    if backend not in BACKENDS:
        raise ValueError(f"mlstm: backend={backend!r} is unknown; choose one of {', '.join(BACKENDS)}.")
    if backend == "auto":
        if q.ndim == 4 and q.shape[2] <= (PARALLEL_UP_TO_ON_CPU if q.device.type == "cpu" else PARALLEL_UP_TO):
            backend = "parallel"
        else:
            backend = "nxai" if _nxai_suits(q, k, v, igate, fgate) else "chunkwise"
    if backend == "parallel":
        return mlstm_parallel(q, k, v, igate, fgate, eps=eps)
    if backend == "recurrent":
        return mlstm_recurrent(q, k, v, igate, fgate, eps=eps)
    form = _mlstm_nxai if backend == "nxai" else mlstm_chunkwise
    return form(q, k, v, igate, fgate, chunk_size=chunk_size, eps=eps)


def mlstm_recurrent(q: Tensor, k: Tensor, v: Tensor, igate: Tensor, fgate: Tensor, *, eps: float = 1e-6) -> Tensor:
    """Run token by token: the oracle of the other forms. Arguments and result as in `mlstm`."""
    _check(q, k, v, igate, fgate)
    dtype = _state_dtype(q)
    with no_autocast(q):
        q, k, v, igate = (x.to(dtype) for x in (q, k, v, igate))
        logf = F.logsigmoid(fgate.to(dtype))
        q = q * q.shape[-1] ** -0.5
        c = q.new_zeros((*q.shape[:2], q.shape[-1], v.shape[-1]))
        n = q.new_zeros((*q.shape[:2], q.shape[-1]))
        m = q.new_zeros(q.shape[:2])
        out = []
        for qt, kt, vt, it, ft in zip(*(x.unbind(2) for x in (q, k, v, igate, logf)), strict=True):
            m_new = torch.maximum(ft + m, it).detach()
            a, g = torch.exp(ft + m - m_new), torch.exp(it - m_new)
            c = a[..., None, None] * c + (g[..., None] * kt)[..., None] * vt[..., None, :]
            n = a[..., None] * n + g[..., None] * kt
            m = m_new
            den = torch.maximum((n * qt).sum(-1).abs(), torch.exp(-m)) + eps
            out.append((c * qt[..., None]).sum(-2) / den[..., None])
        return torch.stack(out, 2)


def mlstm_parallel(q: Tensor, k: Tensor, v: Tensor, igate: Tensor, fgate: Tensor, *, eps: float = 1e-6) -> Tensor:
    """Run all pairs of tokens at once, O(S^2): one chunk as long as the sequence. As `mlstm`."""
    _check(q, k, v, igate, fgate)
    return _chunked(q, k, v, igate, fgate, q.shape[2], eps)


def mlstm_chunkwise(
    q: Tensor, k: Tensor, v: Tensor, igate: Tensor, fgate: Tensor, *, chunk_size: int | None = None, eps: float = 1e-6
) -> Tensor:
    """Run pairs inside chunks and states between them: O(S) in time and memory, also backward. As `mlstm`.

    Raises:
        ValueError: For chunks of less than one token.
    """
    _check(q, k, v, igate, fgate)
    if chunk_size is None:
        chunk_size = 64 if q.device.type == "cpu" else 128
    elif chunk_size < 1:
        raise ValueError(f"mlstm: chunk_size={chunk_size}; it must be 1 or more (64 and 128 are good values).")
    return _chunked(q, k, v, igate, fgate, min(chunk_size, q.shape[2]), eps)


def _chunked(q: Tensor, k: Tensor, v: Tensor, igate: Tensor, fgate: Tensor, length: int, eps: float) -> Tensor:
    dtype = _state_dtype(q)
    product = _product_dtype(q)
    with no_autocast(q):
        logf = F.logsigmoid(fgate.to(dtype))
        return chunkwise(q, k, v, igate.to(dtype), logf, length, eps, product)


def _nxai_suits(q: Tensor, k: Tensor, v: Tensor, igate: Tensor, fgate: Tensor) -> bool:
    """Return whether `auto` may take the Triton kernels: eager, real CUDA tensors, fitting widths, no gradient."""
    if not _HAS_NXAI or q.device.type != "cuda" or torch.compiler.is_compiling() or type(q) is not Tensor:
        return False
    if torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v, igate, fgate)):
        return False  # see _mlstm_nxai
    return q.dtype != torch.float64 and all(w >= 16 and w & (w - 1) == 0 for w in (q.shape[-1], v.shape[-1]))


def _mlstm_nxai(
    q: Tensor, k: Tensor, v: Tensor, igate: Tensor, fgate: Tensor, *, chunk_size: int | None = None, eps: float = 1e-6
) -> Tensor:
    """Run the optional `mlstm_kernels` (NXAI Community Licence): Triton on CUDA, its plain PyTorch form elsewhere.

    Its m leaves out m_0 = 0, so results differ by up to 3e-6. The backward pass of its Triton kernels leaves out the
    denominator, which is right only where a norm over each head's width follows; so `auto` does not train with it.
    """
    if not _HAS_NXAI:
        raise ImportError(
            "mlstm: backend='nxai' needs the package mlstm_kernels (NXAI Community Licence), which is not installed; "
            "install it with `pip install mlstm_kernels` or choose backend='auto'."
        )
    from mlstm_kernels.torch import get_mlstm_kernel

    _check(q, k, v, igate, fgate)
    cuda = q.device.type == "cuda"
    kernel = get_mlstm_kernel("chunkwise--triton_xl_chunk" if cuda else "chunkwise--native_autograd")
    chunk_size = chunk_size or (128 if cuda else 64)
    dtype = _state_dtype(q)
    product = _product_dtype(q)
    tokens = q.shape[2]
    pad = -tokens % chunk_size
    with no_autocast(q):
        q, k, v = (F.pad(x.to(product), (0, 0, 0, pad)) for x in (q, k, v))
        igate = F.pad(igate.to(dtype), (0, pad), value=PAD_GATE)
        fgate = F.pad(fgate.to(dtype), (0, pad), value=-PAD_GATE)
        h = kernel(q, k, v, igate, fgate, chunk_size=chunk_size, eps=eps)
    return h[:, :, :tokens].to(dtype)


def _check(q: Tensor, k: Tensor, v: Tensor, igate: Tensor, fgate: Tensor) -> None:
    tokens = q.shape[:3]
    if q.ndim != 4 or k.shape != q.shape or v.ndim != 4 or v.shape[:3] != tokens:
        rule = "q and k must be (B, NH, S, DQK) and v (B, NH, S, DV); split the heads and move them before the tokens"
    elif igate.shape != tokens or fgate.shape != tokens:
        rule = "the gates must be (B, NH, S), one value per head and token; reshape them"
    elif 0 in q.shape or 0 in v.shape or not q.is_floating_point():
        rule = "every size must be 1 or more and the values floating point; check the layer before"
    else:
        return
    shapes = ", ".join(str(tuple(x.shape)) for x in (q, k, v, igate, fgate))
    raise ValueError(f"mlstm: q, k, v, igate, fgate have shapes {shapes} and type {q.dtype}; {rule}.")


def _state_dtype(q: Tensor) -> torch.dtype:
    return torch.float64 if q.dtype == torch.float64 else torch.float32


def _product_dtype(q: Tensor) -> torch.dtype:
    """Return the type of products with q, k and v: bfloat16 where they or autocast have it, else that of the states.

    Not float16: products of q and k pass its 65504 long before the normaliser brings them down. Not on a CPU: without
    special instructions bfloat16 products take ten times as long there as float32.
    """
    kind = q.device.type
    if kind == "cpu" or q.dtype == torch.float64:
        return _state_dtype(q)
    autocast = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    dtype = torch.get_autocast_dtype(kind) if autocast else q.dtype
    return torch.bfloat16 if dtype == torch.bfloat16 else torch.float32
