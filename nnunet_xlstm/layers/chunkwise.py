"""The chunkwise form of the mLSTM cell: pairs of tokens inside chunks, a state between them, O(S) forward and backward.

The backward pass is written out: under autograd every slice or stack per chunk would have a gradient of full length,
which is quadratic. The parallel form is this one with a single chunk. Equations, letters: `nnunet_xlstm.layers.mlstm`.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from nnunet_xlstm.layers.amp import no_autocast
from nnunet_xlstm.layers.chunk_states import advance, chunk_decays, retreat

PAD_GATE = -1e4  # input gate of padding tokens: exp() is 0 in every precision
_CPU_TOKENS = 4096  # tokens in work at one time on a CPU: temporaries stay in cache, cost per token stays constant
_CPU_KEPT = 2**22  # chunk weights that are kept for the backward pass on a CPU: more leave the cache, and cost more
_MAX_CHUNKS = 64  # chunks in work at one time elsewhere
_is_exporting = getattr(torch.compiler, "is_exporting", lambda: False)  # from torch 2.7 on
_WIDE_BMM = torch.version.cuda is not None and hasattr(torch.ops.aten.bmm, "dtype")  # from torch 2.8 on


class _Weights(NamedTuple):
    """Gate weights in base 2 (exp2 costs half of exp); logs are <= 0 up to rounding, so nothing overflows."""

    col: Tensor  # (H, N, L) log weight of token r against its chunk's start
    row: Tensor  # (H, N, L) the largest of them up to token j, or of the state before; 1/sqrt(DQK) taken in
    floor: Tensor  # (H, N, L) exp(-m_j)
    enter: Tensor  # (H, N, L) weight of the chunk's incoming state in token j, times 1/sqrt(DQK)
    leave: Tensor  # (H, N, L) weight of token r in the chunk's outgoing state
    decay: Tensor  # (H, N) log decay of the state over one chunk


def _writes_down() -> bool:
    """Return whether torch exports or traces: the result is to run without this library, and in ONNX."""
    return torch.jit.is_tracing() or _is_exporting()


def _running_max(x: Tensor) -> Tensor:
    """Return x.cummax(-1).values; where torch writes down, by operations that ONNX knows."""
    if not _writes_down():
        return x.cummax(-1).values
    step = 1
    while step < x.shape[-1]:
        x = torch.maximum(x, F.pad(x[..., :-step], (step, 0), value=-torch.inf))
        step *= 2
    return x


def _weights(igate: Tensor, logf: Tensor, length: int, scale: float) -> _Weights:
    pad = -igate.shape[2] % length
    igate, logf = F.pad(igate, (0, pad), value=PAD_GATE), F.pad(logf, (0, pad))
    igate, logf = (x.reshape(-1, x.shape[2] // length, length) * math.log2(math.e) for x in (igate, logf))
    b = logf.cumsum(-1)
    total = b[..., -1]
    col = igate - b
    # m_{c+1} = max(total_c + m_c, max_r(total_c + col_r)) with m_0 = 0, solved by a running maximum. Rounding in the
    # long sum does no harm: any m will do if the same one is used throughout.
    past = total.cumsum(-1)
    m_out = past + _running_max(col.amax(-1) + total - past).clamp(min=0)
    m_in = F.pad(m_out[..., :-1], (1, 0))
    peak = torch.maximum(m_in[..., None], _running_max(col))
    row = peak - math.log2(scale)
    return _Weights(
        col=col,
        row=row,
        floor=torch.exp2(-(b + peak)),
        enter=torch.exp2(m_in[..., None] - row),
        leave=torch.exp2(col + (total - m_out)[..., None]),
        decay=total + m_in - m_out,
    )


class _Span(NamedTuple):
    """The part of the tensors in work at one time: whole sequences, or a run of chunks of some."""

    batch: slice
    head: slice
    flat: slice  # the same, of H
    chunk: slice
    last: bool  # of its sequences

    def take(self, x: Tensor, length: int) -> Tensor:
        """Take chunks (H * n, L, X) of x (B, NH, S, X), zeros after the end (causal, so the rest stays exact)."""
        x = x[self.batch, self.head, self.chunk.start * length : self.chunk.stop * length]
        x = F.pad(x, (0, 0, 0, -x.shape[2] % length)) if x.shape[2] % length else x
        return x.reshape(-1, length, x.shape[-1])

    def put(self, x: Tensor, part: Tensor, length: int) -> None:
        """Write chunks to their tokens of x (B, NH, S, X)."""
        x = x[self.batch, self.head, self.chunk.start * length : self.chunk.stop * length]
        x.copy_(part.reshape(*x.shape[:2], -1, x.shape[-1])[:, :, : x.shape[2]])


def _spans(q: Tensor, length: int) -> list[_Span]:
    """Return spans in order of time; on a CPU each is contiguous in memory, so that no chunk has to be copied."""
    batch, heads, tokens = q.shape[:3]
    chunks = -(-tokens // length)
    if chunks > 1 and q.device.type == "cpu" and type(q) is Tensor and not torch.compiler.is_compiling():
        size = max(_CPU_TOKENS // length, 1)
        step_h = min(max(size // chunks, 1), heads)
        step_b = min(max(size // (chunks * heads), 1), batch)
    else:  # fewer and larger steps: launches and traced nodes are what costs
        size, step_h, step_b = _MAX_CHUNKS, heads, batch
    spans = []
    for b in range(0, batch, step_b):
        for h in range(0, heads, step_h):
            b_end, h_end = min(b + step_b, batch), min(h + step_h, heads)
            flat = slice(b * heads + h, (b_end - 1) * heads + h_end)
            for c in range(0, chunks, size):
                end = min(c + size, chunks)
                spans.append(_Span(slice(b, b_end), slice(h, h_end), flat, slice(c, end), end == chunks))
    return spans


def _keeps_weights(q: Tensor, length: int) -> bool:
    """Return whether the chunks' (L, L) weights are kept for the backward pass or computed again."""
    return q.device.type == "cpu" and math.prod(q.shape[:3]) * length <= _CPU_KEPT


def _mm(a: Tensor, b: Tensor, dtype: torch.dtype, add: Tensor | None = None) -> Tensor:
    """Multiply batches of factors in `dtype`; the result, added in place to `add`, has the dtype of the states.

    bfloat16 factors, but no bfloat16 result: what follows multiplies it by exponentials, sums it and divides by it.
    """
    if dtype == torch.bfloat16:
        a, b = a.to(dtype), b.to(dtype)
        if _WIDE_BMM and a.device.type == "cuda":
            product = torch.bmm(a, b, out_dtype=torch.float32)
            return product if add is None else add.add_(product)
        a, b = a.float(), b.float()  # exact
    if add is None:
        return torch.bmm(a, b)
    return torch.baddbmm(add, a, b, out=add)  # not baddbmm_, which torch's FLOP counter does not see


def _pairs(col: Tensor, row: Tensor) -> Tensor:
    """Return weights (n, L, L) of token r in token j of each chunk; cut later tokens (perhaps inf here) to 0."""
    return (col[:, None] - row[..., None]).exp2_().tril_()


def chunkwise(
    q: Tensor, k: Tensor, v: Tensor, igate: Tensor, logf: Tensor, length: int, eps: float, product: torch.dtype
) -> Tensor:
    """Run the chunkwise form of the cell, differentiable where a gradient is wanted.

    Args:
        q: Queries (B, NH, S, DQK).
        k: Keys (B, NH, S, DQK).
        v: Values (B, NH, S, DV).
        igate: Input gate (B, NH, S), in the dtype of the states.
        logf: Log of the forget gate (B, NH, S), likewise.
        length: L, tokens per chunk.
        eps: Added to the stabilized denominator.
        product: Dtype of the factors of products with q, k and v.

    Returns:
        Hidden states (B, NH, S, DV) in the dtype of the states. Plain operations without a gradient where none is
        wanted, and while torch exports or traces: what it writes down shall run without this library.
    """
    if _writes_down():
        q, k, v, igate, logf = (x.detach() for x in (q, k, v, igate, logf))
    inputs = q, k, v, igate, logf
    if torch.is_grad_enabled() and any(x.requires_grad for x in inputs):
        return ChunkwiseMLSTM.apply(*inputs, length, eps, product)
    return _forward(inputs, length, eps, product)


def _forward(
    inputs: tuple[Tensor, ...], length: int, eps: float, product: torch.dtype, saved: list[Tensor] | None = None
) -> Tensor:
    """Return the hidden states.

    `saved` gets what the backward pass needs besides: the denominators, then for every span the weights that are kept
    and the states that enter its chunks.
    """
    q, k, v, igate, logf = inputs
    dtype = igate.dtype
    out = igate.new_empty(v.shape)
    w = _weights(igate, logf, length, q.shape[-1] ** -0.5)
    single = w.col.shape[1] == 1
    vectors = torch.stack([w.col, w.row, w.floor, w.enter, w.leave])
    if saved is not None:
        dens = torch.empty_like(w.col)
        saved.append(dens)
    c = n = None
    for span in _spans(q, length):
        at = span.flat, span.chunk
        qs, ks, vs = (span.take(x, length).to(product) for x in (q, k, v))
        col, row, floor, enter, leave = vectors[:, span.flat, span.chunk].flatten(1, 2).unbind(0)
        pairs = _pairs(col, row)
        weights = _mm(qs, ks.mT, product).mul_(pairs)
        num, den = _mm(weights, vs, product), weights.sum(-1)
        if saved is not None and not single and _keeps_weights(q, length):
            saved += [weights, pairs]
        if not single:
            decay = w.decay[at]
            shape, decays = (*decay.shape, -1), chunk_decays(decay)
            c_in, c = advance(_mm(ks.mT, vs * leave[..., None], product).view(shape), c, decays)
            n_in, n = advance(torch.bmm(leave[:, None], ks.to(dtype)).view(shape), n, decays)
            if saved is not None:
                saved += [c_in, n_in]
            qs = qs * enter[..., None]
            num = _mm(qs, c_in.view(-1, ks.shape[-1], vs.shape[-1]), product, num)
            den += (qs * n_in.view(-1, 1, ks.shape[-1])).sum(-1)
            if span.last:
                c = n = None
        num /= (torch.maximum(den.abs(), floor) + eps)[..., None]
        span.put(out, num, length)
        if saved is not None:
            dens[at] = den.view(dens[at].shape)
    return out


class ChunkwiseMLSTM(torch.autograd.Function):
    """The chunkwise form, span by span, with its backward pass written out.

    Saves the inputs, the output, the denominators and the state that enters each chunk. The L x L weights are kept as
    well on a CPU, where making them again costs more than the memory, and made again elsewhere.
    """

    @staticmethod
    def forward(ctx, q, k, v, igate, logf, length, eps, product):
        """Return the hidden states; arguments as in `chunkwise`."""
        saved: list[Tensor] = []
        out = _forward((q, k, v, igate, logf), length, eps, product, saved)
        ctx.save_for_backward(q, k, v, igate, logf, out, *saved)
        ctx.settings = length, eps, product
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        """Return the gradients of the five tensors, and None for the settings; grad: (B, NH, S, DV)."""
        q, k, v, igate, logf, h, dens, *saved = ctx.saved_tensors
        length, eps, product = ctx.settings
        dtype = igate.dtype
        dqs, dks, dvs = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v))
        with no_autocast(q):
            w = _weights(igate, logf, length, q.shape[-1] ** -0.5)
            single = w.col.shape[1] == 1
            keep = not single and _keeps_weights(q, length)
            inv = (torch.maximum(dens.abs(), w.floor) + eps).reciprocal()
            inv_den = torch.where(dens.abs() > w.floor, -dens.sign() * inv, 0.0)
            vectors = torch.stack([w.col, w.row, inv, inv_den, w.enter, w.leave])
            # The weights depend on the gates only through exp(), so that sums of weight times gradient give the gates'
            # gradients: over the weights that a token has as key (k . dk), over those it has as query (q . dq; h . dh
            # would do, but its rounding differs, and only equal errors cancel below), and over each chunk's end.
            by_query, by_key, by_end = torch.empty_like(w.col), torch.empty_like(w.col), torch.zeros_like(w.decay)
            dc = dn = c_next = n_next = None
            for span in reversed(_spans(q, length)):
                at = span.flat, span.chunk
                qs, ks, vs = (span.take(x, length).to(product) for x in (q, k, v))
                hs, dh = (span.take(x, length).to(dtype) for x in (h, grad))
                col, row, scale, scale_den, enter, leave = vectors[:, span.flat, span.chunk].flatten(1, 2).unbind(0)
                dden = ((dh * hs).sum(-1) * scale_den)[..., None]
                dnum = dh * scale[..., None]
                n_in, c_in = (None, None) if single else (saved.pop(), saved.pop())
                if keep:
                    pairs, weights = saved.pop(), saved.pop()
                else:
                    pairs = _pairs(col, row)
                    weights = _mm(qs, ks.mT, product).mul_(pairs)
                dv = _mm(weights.mT, dnum, product)
                del weights
                ds = _mm(dnum, vs.mT, product).add_(dden).mul_(pairs)
                del pairs
                dq, dk = _mm(ds, ks, product), _mm(ds.mT, qs, product)
                del ds
                if not single:
                    decays = chunk_decays(w.decay[at])
                    enter, leave = enter[..., None], leave[..., None]
                    if span.last:
                        dc = dn = None
                    else:  # the state that leaves this span is the one that enters the next
                        by_end[span.flat, span.chunk.stop - 1] = (c_next * dc).sum(-1) + (n_next * dn).sum(-1)
                    c_next, n_next = c_in[:, 0], n_in[:, 0]
                    dnum, dden = dnum.mul_(enter), dden * enter
                    cs, ns = c_in.view(-1, ks.shape[-1], vs.shape[-1]), n_in.view(-1, 1, ks.shape[-1])
                    dq = _mm(dnum, cs.mT, product, dq).addcmul_(dden, ns)
                    dc_own, dc = retreat(_mm(qs.mT, dnum, product).view_as(c_in), dc, decays)
                    dn_own, dn = retreat(torch.bmm(dden.mT, qs.to(dtype)).view_as(n_in), dn, decays)
                    ends = by_end[at][:, :-1]
                    ends += (c_in[:, 1:] * dc_own[:, :-1]).sum(-1) + (n_in[:, 1:] * dn_own[:, :-1]).sum(-1)
                    dcs = dc_own.view_as(cs)
                    dk = _mm(vs * leave, dcs.mT, product, dk).addcmul_(leave, dn_own.view_as(ns))
                    dv = _mm(ks * leave, dcs, product, dv)
                for x, part in zip((dqs, dks, dvs), (dq, dk, dv), strict=True):
                    span.put(x, part, length)
                by_query[at] = dq.mul_(qs).sum(-1).view(by_query[at].shape)
                by_key[at] = dk.mul_(ks).sum(-1).view(by_key[at].shape)
            # Summed inside a chunk only: over the whole sequence rounding errors would add up.
            dlogf = (by_query - by_key).flip(-1).cumsum(-1).flip(-1) + by_end[..., None]
            di, df = (x.reshape(*q.shape[:2], -1)[..., : q.shape[2]] for x in (by_key, dlogf))
        return dqs, dks, dvs, di, df, None, None, None
