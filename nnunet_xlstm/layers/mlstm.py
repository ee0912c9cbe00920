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
import math
from contextlib import nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

BACKENDS = ("auto", "parallel", "chunkwise", "recurrent", "nxai")
PARALLEL_UP_TO = 1024  # tokens; `auto` takes the chunkwise form above
_PAD_GATE = -1e4  # input gate of padding tokens: exp() is 0 in every precision
# Tokens times heads in flight: small enough for the cache on a CPU, large enough to fill a GPU. It bounds temporaries
# and keeps the cost per token constant.
_SEGMENT = {"cpu": 8192, "cuda": 131072}
_MAX_CHUNKS = 64  # chunks in a segment: the carry between them costs chunks^2
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
        backend: One of `BACKENDS`. `auto`: parallel up to `PARALLEL_UP_TO` tokens, chunkwise above (on CUDA the
            optional package `mlstm_kernels` where it is installed and the shapes suit it).
        chunk_size: Tokens per chunk of the chunkwise form; None: 64 on CPU, 128 elsewhere.
        eps: Added to the stabilised denominator.

    Returns:
        Hidden states (B, NH, S, DV), float32 (float64 for float64 input) whatever autocast says.

    Raises:
        ValueError: For an unknown backend or shapes that do not fit.
        ImportError: For `backend="nxai"` without the package.
    """
    if backend not in BACKENDS:
        raise ValueError(f"mlstm: backend={backend!r} is unknown; choose one of {', '.join(BACKENDS)}.")
    if backend == "auto":
        if q.ndim == 4 and q.shape[2] <= PARALLEL_UP_TO:
            backend = "parallel"
        else:
            backend = "nxai" if _nxai_suits(q, v) else "chunkwise"
    if backend == "parallel":
        return mlstm_parallel(q, k, v, igate, fgate, eps=eps)
    if backend == "recurrent":
        return mlstm_recurrent(q, k, v, igate, fgate, eps=eps)
    form = _mlstm_nxai if backend == "nxai" else mlstm_chunkwise
    return form(q, k, v, igate, fgate, chunk_size=chunk_size, eps=eps)


def mlstm_recurrent(q, k, v, igate, fgate, *, eps: float = 1e-6) -> Tensor:
    """Token by token: the oracle of the other forms. Arguments and result as in `mlstm`."""
    _check(q, k, v, igate, fgate)
    dtype = _state_dtype(q)
    with _no_autocast(q):
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


def mlstm_parallel(q, k, v, igate, fgate, *, eps: float = 1e-6) -> Tensor:
    """All pairs of tokens at once, O(S^2): one chunk as long as the sequence. As `mlstm`."""
    _check(q, k, v, igate, fgate)
    return _chunked(q, k, v, igate, fgate, q.shape[2], eps)


def mlstm_chunkwise(q, k, v, igate, fgate, *, chunk_size: int | None = None, eps: float = 1e-6) -> Tensor:
    """Pairs inside chunks, states between them: O(S) in time and memory, also backward. As `mlstm`."""
    _check(q, k, v, igate, fgate)
    if chunk_size is None:
        chunk_size = 64 if q.device.type == "cpu" else 128
    if chunk_size < 1:
        raise ValueError(f"mlstm: chunk_size={chunk_size}; it must be 1 or more (64 and 128 are good values).")
    return _chunked(q, k, v, igate, fgate, min(chunk_size, q.shape[2]), eps)


def _chunked(q, k, v, igate, fgate, length: int, eps: float) -> Tensor:
    dtype = _state_dtype(q)
    product = _product_dtype(q)
    with _no_autocast(q):
        logf = F.logsigmoid(fgate.to(dtype))
        return _Chunkwise.apply(q, k, v, igate.to(dtype), logf, length, eps, product)


class _Weights(NamedTuple):
    """Gate weights of one segment of n chunks; all log weights are <= 0 up to rounding, so nothing overflows."""

    col: Tensor  # (H, n, L) log weight of token r against its chunk's start
    row: Tensor  # (H, n, L) largest of them up to token j, the 1/sqrt(DQK) taken in
    floor: Tensor  # (H, n, L) exp(-m_j)
    enter: Tensor  # (H, n, L) weight of the chunk's incoming state in token j, times 1/sqrt(DQK)
    leave: Tensor  # (H, n, L) weight of token r in the chunk's outgoing state
    decay: Tensor  # (H, n) log decay of the state over one chunk
    m: Tensor  # (H, 1) stabiliser of the segment's outgoing state


def _weights(igate: Tensor, logf: Tensor, m: Tensor, scale: float) -> _Weights:
    b = logf.cumsum(-1)
    total = b[..., -1]
    col = igate - b
    # m_{c+1} = max(total_c + m_c, max_r(total_c + col_r)), solved by a running maximum. Rounding in the long sum does no
    # harm: any m will do if the same one is used throughout.
    past = total.cumsum(-1)
    m_out = past + torch.maximum(m, (col.amax(-1) + total - past).cummax(-1).values)
    m_in = torch.cat([m, m_out[:, :-1]], 1)
    peak = torch.maximum(m_in[..., None], col.cummax(-1).values)
    row = peak - math.log(scale)
    return _Weights(
        col=col,
        row=row,
        floor=torch.exp(-(b + peak)),
        enter=torch.exp(m_in[..., None] - row),
        leave=torch.exp(col + (total - m_out)[..., None]),
        decay=total + m_in - m_out,
        m=m_out[:, -1:],
    )


def _carry(decay: Tensor) -> tuple[Tensor, Tensor]:
    """Decay of the state from chunk to chunk: (H, n + 1, n) and (H, n + 1).

    The first holds the weight of chunk s's own update in the state that enters chunk c (c = n: that leaves the
    segment), the second that of the segment's incoming state. Sums of non-positive terms only: no cancellation.
    """
    span = decay[..., None].expand(-1, -1, decay.shape[1]).tril(-1).cumsum(1)  # [c, s]: sum over s < r <= c
    return F.pad(torch.exp(span).tril_(), (0, 0, 1, 0)), F.pad(torch.exp(decay.cumsum(1)), (1, 0), value=1.0)


def _advance(own: Tensor, before: Tensor | None, pair: Tensor, first: Tensor) -> Tensor:
    """States (H, n, X) that enter each chunk, from the chunks' own updates (H, n, X) and the state before (H, X)."""
    states = torch.bmm(pair[:, :-1], own)
    return states if before is None else states.baddbmm_(first[:, :-1, None], before[:, None])


def _retreat(grad: Tensor, after: Tensor | None, pair: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
    """Transpose of `_advance`: gradients of the own updates (H, n, X) and of the state before (H, X)."""
    own = torch.bmm(pair[:, :-1].mT, grad)
    before = torch.bmm(first[:, None, :-1], grad)[:, 0]
    if after is None:
        return own, before
    return own.baddbmm_(pair[:, -1, :, None], after[:, None]), before.addcmul_(first[:, -1:], after)


def _mm(a: Tensor, b: Tensor, dtype: torch.dtype, add: Tensor | None = None) -> Tensor:
    """Batched product in `dtype`; the result, plus `add`, in the dtype of the states."""
    if add is None:
        return torch.bmm(a.to(dtype), b.to(dtype)).to(a.dtype)
    if add.dtype == dtype:
        return add.baddbmm_(a, b)
    return add.add_(torch.bmm(a.to(dtype), b.to(dtype)))


def _chunks(x: Tensor, start: int, stop: int, length: int, dtype: torch.dtype, fill: float = 0.0) -> Tensor:
    """Tokens start..stop of (B, NH, S, ...) as (H, n, L, ...), padded at the end (causal, so the rest stays exact)."""
    x = x[:, :, start:stop].to(dtype)
    pad = -x.shape[2] % length
    if pad:
        x = F.pad(x, (0, 0) * (x.ndim - 3) + (0, pad), value=fill)
    return x.reshape(x.shape[0] * x.shape[1], x.shape[2] // length, length, *x.shape[3:])


def _segments(q: Tensor, length: int) -> list[tuple[int, int]]:
    """Token ranges, whole chunks but for the last one."""
    tokens = _SEGMENT.get(q.device.type, _SEGMENT["cuda"]) // (q.shape[0] * q.shape[1])
    step = length * min(max(tokens // length, 1), _MAX_CHUNKS)
    return [(i, min(i + step, q.shape[2])) for i in range(0, q.shape[2], step)]


def _load(q, k, v, igate, logf, m, span, length):
    dtype = igate.dtype
    w = _weights(
        _chunks(igate, *span, length, dtype, _PAD_GATE), _chunks(logf, *span, length, dtype), m, q.shape[-1] ** -0.5
    )
    return *(_chunks(x, *span, length, dtype).flatten(0, 1) for x in (q, k, v)), w


def _pairs(w: _Weights) -> Tensor:
    """Weights (H * n, L, L) of token r in token j of a chunk. Later tokens (perhaps inf here) are cut to 0."""
    return (w.col[..., None, :] - w.row[..., None]).exp_().tril_().flatten(0, 1)


class _Chunkwise(torch.autograd.Function):
    """The chunkwise form, segment by segment, with its backward pass written out.

    Saves the inputs, the output and the state that enters each chunk; the L x L weights are made again in the backward
    pass.
    """

    @staticmethod
    def forward(ctx, q, k, v, igate, logf, length, eps, product):
        out, saved, c, n = [], [], None, None
        m = igate.new_zeros((q.shape[0] * q.shape[1], 1))
        single = q.shape[2] <= length
        for span in _segments(q, length):
            qs, ks, vs, w = _load(q, k, v, igate, logf, m, span, length)
            weights = _mm(qs, ks.mT, product).mul_(_pairs(w))
            num, den = _mm(weights, vs, product), weights.sum(-1)
            saved += [m, den]
            if not single:
                rows, leave = w.decay.shape, w.leave.flatten(0, 1)
                pair, first = _carry(w.decay)
                own_c = _mm(ks.mT, vs * leave[..., None], product).view(*rows, -1)
                own_n = torch.bmm(leave[:, None], ks).view(*rows, -1)
                c_in, n_in = _advance(own_c, c, pair, first), _advance(own_n, n, pair, first)
                last = torch.exp(w.decay[:, -1:])
                c = torch.addcmul(own_c[:, -1], last, c_in[:, -1])
                n = torch.addcmul(own_n[:, -1], last, n_in[:, -1])
                m = w.m
                qs = qs * w.enter.flatten(0, 1)[..., None]
                num = _mm(qs, c_in.view(-1, ks.shape[-1], vs.shape[-1]), product, num)
                den += torch.bmm(qs, n_in.view(-1, ks.shape[-1], 1))[..., 0]
                saved += [c_in, n_in]
            h = num.div_((torch.maximum(den.abs(), w.floor.flatten(0, 1)) + eps)[..., None])
            out.append(h.view(*q.shape[:2], -1, v.shape[-1])[:, :, : span[1] - span[0]])
        h = torch.cat(out, 2)
        ctx.save_for_backward(q, k, v, igate, logf, h, *saved)
        ctx.settings = length, eps, product
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        q, k, v, igate, logf, h, *saved = ctx.saved_tensors
        length, eps, product = ctx.settings
        single = q.shape[2] <= length
        dtype = igate.dtype
        grads, dc, dn, end = [], None, None, None
        with _no_autocast(q):
            for span in reversed(_segments(q, length)):
                if not single:
                    n_in, c_in = saved.pop(), saved.pop()
                den, m = saved.pop(), saved.pop()
                qs, ks, vs, w = _load(q, k, v, igate, logf, m, span, length)
                hs, dh = (_chunks(x, *span, length, dtype).flatten(0, 1) for x in (h, grad))
                floor = w.floor.flatten(0, 1)
                inv = (torch.maximum(den.abs(), floor) + eps).reciprocal()
                dden = -(dh * hs).sum(-1) * inv * torch.where(den.abs() > floor, den.sign(), 0.0)
                dnum = dh * inv[..., None]
                decay = _pairs(w)
                weights = _mm(qs, ks.mT, product).mul_(decay)
                dv = _mm(weights.mT, dnum, product)
                ds = _mm(dnum, vs.mT, product).add_(dden[..., None]).mul_(decay)
                dq, dk = _mm(ds, ks, product), _mm(ds.mT, qs, product)
                if not single:
                    rows = w.decay.shape
                    enter, leave = w.enter.flatten(0, 1)[..., None], w.leave.flatten(0, 1)[..., None]
                    pair, first = _carry(w.decay)
                    dnum, dden = dnum.mul_(enter), dden[..., None] * enter
                    cs, ns = c_in.view(-1, ks.shape[-1], vs.shape[-1]), n_in.view(-1, 1, ks.shape[-1])
                    dq = _mm(dnum, cs.mT, product, dq).addcmul_(dden, ns)
                    dc_in = _mm(qs.mT, dnum, product).view(*rows, -1)
                    dn_in = torch.bmm(dden.mT, qs).view(*rows, -1)
                    dc_own, dc = _retreat(dc_in, dc, pair, first)
                    dn_own, dn = _retreat(dn_in, dn, pair, first)
                    # Gradient of a chunk's whole log decay: <state, its gradient> at the chunk's end.
                    total = (c_in[:, 1:] * dc_own[:, :-1]).sum(-1) + (n_in[:, 1:] * dn_own[:, :-1]).sum(-1)
                    total = F.pad(total, (0, 1)) if end is None else torch.cat([total, end], 1)
                    end = ((c_in[:, 0] * dc).sum(-1) + (n_in[:, 0] * dn).sum(-1))[:, None]
                    dcs, dns = dc_own.view_as(cs), dn_own.view_as(ns)
                    dk = _mm(vs * leave, dcs.mT, product, dk).addcmul_(leave, dns)
                    dv = _mm(ks * leave, dcs, product, dv)
                # The weights depend on the gates only through exp(): sums of weight times gradient suffice.
                by_key = (ks * dk).sum(-1)
                db = ((qs * dq).sum(-1) - by_key).view_as(w.col)
                dlogf = db.flip(-1).cumsum(-1).flip(-1)
                if not single:
                    dlogf += total[..., None]
                parts = (dq, dk, dv, by_key, dlogf)
                grads.append([x.view(*q.shape[:2], -1, *s.shape[3:])[:, :, : span[1] - span[0]]
                              for x, s in zip(parts, (q, k, v, igate, logf), strict=True)])
            cols = zip(*reversed(grads), strict=True)
            out = [torch.cat(x, 2).to(s.dtype) for x, s in zip(cols, (q, k, v, igate, logf), strict=True)]
        return *out, None, None, None


def _check(q, k, v, igate, fgate) -> None:
    pass


def _no_autocast(x: Tensor):
    """Autocast off for the device of x, where that device has it."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


def _state_dtype(q: Tensor) -> torch.dtype:
    return torch.float64 if q.dtype == torch.float64 else torch.float32


def _product_dtype(q: Tensor) -> torch.dtype:
    return _state_dtype(q)


def _nxai_suits(q, v):
    return False


def _mlstm_nxai(*a, **k):
    raise ImportError
