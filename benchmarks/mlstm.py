"""Time and memory of the mLSTM cell, forward and backward, float32, 4 heads of width 64, B = 1.

    python benchmarks/mlstm.py

Prints what it measures; the last line is one JSON object:

    speedup_4096                 time of the parallel form / time of the chunkwise form at 4,096 tokens
    memory_ratio_4096            extra memory of the chunkwise form / of the parallel form (peak of a fresh process
                                 during the call, less its resident memory just before)
    token_cost_ratio_65536_4096  time per token of the chunkwise form at 65,536 tokens / at 4,096
    floor_ratio                  time of the chunkwise form at 4,096 tokens / of the bare batched matrix products that
                                 it must do, with their backward products, by torch's autograd
    time_vs_native               {"4096": ..., "16384": ...}: time of the chunkwise form / of the native chunkwise form
                                 of mlstm_kernels (its hand-written backward pass); null where it is not installed

and, for context, the speed-up over a parallel form under plain autograd (the library's own has its backward pass
written out, which takes about half the time), versions, threads, seconds and megabytes. Times are medians; the variants
of a ratio take turns in one process, so that other load on the machine meets all of them. To compare with mlstm_kernels
without installing it:

    pip install --no-deps --target DIR mlstm_kernels && PYTHONPATH=DIR python benchmarks/mlstm.py
"""

import argparse
import importlib.util
import json
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from bench import number_of
from torch import Tensor

from nnunet_xlstm.layers.mlstm import mlstm_chunkwise, mlstm_parallel

HEADS, WIDTH, CHUNK = 4, 64, 64
FORMS = {"chunkwise": mlstm_chunkwise, "parallel": mlstm_parallel}


def inputs(tokens: int) -> tuple[list[Tensor], Tensor]:
    """q, k, v (1, HEADS, tokens, WIDTH), gates (1, HEADS, tokens) like a new ViL block's, output gradient."""
    gen = torch.Generator().manual_seed(0)
    q, k, v, grad = (torch.randn(1, HEADS, tokens, WIDTH, generator=gen) for _ in range(4))
    igate = torch.randn(1, HEADS, tokens, generator=gen)
    fgate = torch.randn(1, HEADS, tokens, generator=gen) + torch.linspace(3, 6, HEADS)[:, None]
    return [x.requires_grad_() for x in (q, k, v, igate, fgate)], grad


def call(form: Callable, tokens: int, **kwargs) -> Callable[[], object]:
    x, grad = inputs(tokens)
    return lambda: torch.autograd.grad(form(*x, **kwargs), x, grad)


def floor(tokens: int) -> Callable[[], object]:
    """q k^T, W v, q C, k^T v of every chunk as four batched products, and their eight backward products."""
    n = HEADS * tokens // CHUNK
    shapes = [
        ((CHUNK, WIDTH), (WIDTH, CHUNK)),
        ((CHUNK, CHUNK), (CHUNK, WIDTH)),
        ((CHUNK, WIDTH), (WIDTH, WIDTH)),
        ((WIDTH, CHUNK), (CHUNK, WIDTH)),
    ]
    pairs = [[torch.randn(n, *s, requires_grad=True) for s in pair] for pair in shapes]
    grads = [torch.randn(n, a[0], b[1]) for a, b in shapes]
    leaves = [x for pair in pairs for x in pair]
    return lambda: torch.autograd.grad([torch.bmm(a, b) for a, b in pairs], leaves, grads)


def plain_parallel(q: Tensor, k: Tensor, v: Tensor, igate: Tensor, fgate: Tensor) -> Tensor:
    """The parallel form as one would write it down, backward pass by autograd, in place where that allows it."""
    b = F.logsigmoid(fgate).cumsum(-1)
    log_weights = (igate - b)[..., None, :] + b[..., None]
    later = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool).triu(1)
    log_weights = log_weights.masked_fill_(later, float("-inf"))
    m = torch.maximum(log_weights.amax(-1), b).detach()
    weights = (q * q.shape[-1] ** -0.5 @ k.mT) * (log_weights - m[..., None]).exp_()
    return weights @ v / (torch.maximum(weights.sum(-1).abs(), torch.exp(-m)) + 1e-6)[..., None]


def take_turns(variants: dict[str, tuple[Callable, int]], turns: int) -> dict[str, float]:
    """Median seconds of each variant; a variant is what to call and how often in its turn.

    Each turn starts with a call that is not counted: the variant before has emptied caches and given memory back.
    """
    seconds = {name: [] for name in variants}
    for _ in range(turns):
        for name, (run, times) in variants.items():
            run()
            for _ in range(times):
                start = time.perf_counter()
                run()
                seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(s) for name, s in seconds.items()}
    for name, s in seconds.items():
        print(f"  {name:<12} {medians[name]:9.4f} s  (fastest {min(s):.4f}, {len(s)} calls)", flush=True)
    return medians


def peak_mb() -> float:
    """Largest resident memory so far; since the last `reset_peak` where the system can do that."""
    try:
        with open("/proc/self/status") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def reset_peak() -> None:
    """Set the peak back to the present, so that imports and set-up do not hide the call (Linux)."""
    try:
        with open("/proc/self/clear_refs", "w") as f:
            f.write("5")
    except OSError:
        pass


def extra_memory(form: str, tokens: int) -> float:
    """Megabytes, in this process: run it in a fresh one."""
    call(FORMS[form], CHUNK + 1)()  # threads and buffers of the libraries
    run = call(FORMS[form], tokens)
    reset_peak()
    before = peak_mb()
    result = run()
    after = peak_mb()
    del result
    return after - before


def fresh_memory(form: str, tokens: int) -> float:
    megabytes = number_of(__file__, "--memory-of", form, "--tokens", str(tokens))
    print(f"  {form:<12} {megabytes:9.1f} MB extra at {tokens} tokens", flush=True)
    return megabytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=4096, help="short sequence")
    parser.add_argument("--tokens-middle", type=int, default=16384, help="second length for mlstm_kernels")
    parser.add_argument("--tokens-long", type=int, default=65536, help="long sequence")
    parser.add_argument("--repeats", type=int, default=15, help="turns; slow variants take a third of them")
    parser.add_argument("--threads", type=int, default=1, help="1 suffers least from other load on the machine")
    parser.add_argument("--memory-of", choices=FORMS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.memory_of:
        print(extra_memory(args.memory_of, args.tokens))
        return
    short, middle, long = args.tokens, args.tokens_middle, args.tokens_long
    turns, few, often = args.repeats, max(args.repeats // 3, 1), 5
    megabytes = {form: fresh_memory(form, short) for form in FORMS}
    ours = call(mlstm_chunkwise, short, chunk_size=CHUNK)
    print("against the bare products")
    bare = take_turns({"chunkwise": (ours, 1), "products": (floor(short), 1)}, turns)
    print("against the parallel form")
    slow = {"chunkwise": (ours, often), "parallel": (call(mlstm_parallel, short), 1)}
    slow = take_turns(slow | {"plain": (call(plain_parallel, short), 1)}, few)
    print(f"against {long} tokens")
    length = {"chunkwise": (ours, often), "long": (call(mlstm_chunkwise, long, chunk_size=CHUNK), 1)}
    length = take_turns(length, few)
    native = None
    if importlib.util.find_spec("mlstm_kernels") is not None:
        from mlstm_kernels.torch import get_mlstm_kernel

        kernel, native = get_mlstm_kernel("chunkwise--native_custbw"), {}
        for tokens, times in ((short, turns), (middle, few)):
            print(f"against mlstm_kernels, {tokens} tokens")
            variants = {"chunkwise": mlstm_chunkwise, "native": kernel}
            pair = take_turns({name: (call(f, tokens, chunk_size=CHUNK), 1) for name, f in variants.items()}, times)
            native[str(tokens)] = pair["chunkwise"] / pair["native"]
    result = {
        f"speedup_{short}": slow["parallel"] / slow["chunkwise"],
        f"memory_ratio_{short}": megabytes["chunkwise"] / megabytes["parallel"],
        f"token_cost_ratio_{long}_{short}": length["long"] / long / (length["chunkwise"] / short),
        "floor_ratio": bare["chunkwise"] / bare["products"],
        "time_vs_native": native,
        f"speedup_{short}_plain_autograd": slow["plain"] / slow["chunkwise"],
        "seconds": slow | {"products": bare["products"], "long": length["long"]},
        "megabytes": megabytes,
        "torch": torch.__version__,
        "threads": args.threads,
        "machine": platform.processor() or platform.machine(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
