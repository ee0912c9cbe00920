"""Trainings in processes of their own, started by nnU-Net's own functions: alone, or on two ranks joined by gloo.

As a script, with one argument, a JSON object: `trainer`, `dataset` (name), `fold`, `ranks`, `method` (spawn or fork),
`continuing`, `folder` (for marks and reports), and `slow`, seconds by which each training step (`train`), validation
step (`validate`), batch of rank 1 (`load`) or checkpoint between writing and renaming (`save`) takes longer. A rank
leaves the files
    <phase>_<rank>      while that phase lasts for the second time or later
    report_<rank>.json  its exit code, and by epoch the losses of its training steps and, before each, a digest of the
                        state of torch's generator
    workers_<rank>.json process ids of its augmentation workers (of training)
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import json
import multiprocessing
import os
import sys
import time
from pathlib import Path

PLANS = "nnUNetXLSTMUNetTinyPlans"


def rank_main(rank: int, options: dict) -> None:
    """What `nnUNetv2_train` runs on one rank, on the CPU: its device and backend alone are others."""
    import torch
    from nnunetv2.run import run_training as stock
    from nnunetv2.training.logging.nnunet_logger import MetaLogger
    from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as stock_trainer
    from torch import distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    from nnunet_xlstm.nnunet.training import collapse_monitor
    from nnunet_xlstm.registry import TRAINERS

    torch.set_num_threads(1)
    alone = options["ranks"] == 1
    folder = Path(options["folder"])
    make = stock.get_trainer_from_args
    report: dict = {"losses": {}, "states": {}, "exit": 0}

    def make_on_cpu(*args, **_):
        trainer = make(*args[:6], device=torch.device("cpu"))
        trainer.device, trainer.grad_scaler = torch.device("cpu"), None  # nnU-Net gives each rank a GPU
        trainer.perform_actual_validation = lambda *_: None
        _watch(trainer, rank, options, folder, report)
        return trainer

    stock.get_trainer_from_args = make_on_cpu
    stock.recursive_find_trainer_class_by_name = lambda name: getattr(importlib.import_module(TRAINERS[name]), name)
    stock.setup_ddp = lambda rank, n: dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=n
    )
    torch.cuda.set_device = lambda device: None
    save = torch.save

    def slow_save(content, file, **keys):
        save(content, file, **keys)
        if isinstance(file, (str, Path)):
            time.sleep(options["slow"].get("save", 0))

    torch.save = slow_save
    # pictures would take most of the time
    MetaLogger.plot_progress_png = collapse_monitor.draw_progress = lambda *_: None
    stock_trainer.DDP = lambda network, device_ids: DistributedDataParallel(network)
    dataset, fold, trainer, resume = (options[key] for key in ("dataset", "fold", "trainer", "continuing"))
    try:
        if alone:
            stock.run_training(dataset, "3d_fullres", fold, trainer, PLANS, continue_training=resume)
        else:
            fold = fold if fold == "all" else int(fold)
            args = (dataset, "3d_fullres", fold, trainer, PLANS, False, resume, False, None, False, False, 2)
            stock.run_ddp(rank, *args)
    except BaseException as error:
        report["exit"] = error.code if isinstance(error, SystemExit) else f"{type(error).__name__}: {error}"
        raise
    finally:
        _write(folder / f"report_{rank}.json", report)


def _watch(trainer, rank: int, options: dict, folder: Path, report: dict) -> None:
    """Make phases long and visible, and keep the losses."""
    import torch

    slow = options["slow"]
    seen = {"train": 0, "validate": 0, "load": 0}

    def phase(name: str):
        seen[name] += 1
        if slow.get(name):
            if seen[name] > 1:
                (folder / f"{name}_{rank}").touch()
            time.sleep(slow[name])

    def wrap(name: str, method):
        def step(batch):
            phase(name)
            state = hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest()
            result = method(batch)
            if name == "train":
                for key, value in (("losses", float(result["loss"])), ("states", state)):
                    report[key].setdefault(str(trainer.current_epoch), []).append(value)
                _write(folder / f"report_{rank}.json", report)
            return result

        return step

    trainer.train_step = wrap("train", trainer.train_step)
    trainer.validation_step = wrap("validate", trainer.validation_step)
    loaders = trainer.get_dataloaders

    class Slow:
        def __init__(self, augmenter):
            self.augmenter = augmenter

        def __next__(self):
            if rank == 1 or options["ranks"] == 1:
                phase("load")
            return next(self.augmenter)

        def _finish(self):
            if hasattr(self.augmenter, "_finish"):
                self.augmenter._finish()

    def slow_loaders():
        train, validate = loaders()
        workers = [p.pid for p in getattr(train, "_processes", ())]
        _write(folder / f"workers_{rank}.json", workers)
        return Slow(train), validate

    trainer.get_dataloaders = slow_loaders


def _write(path: Path, content) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content))
    os.replace(temporary, path)


def start(options: dict) -> None:
    """Train in this process, or as `nnUNetv2_train -num_gpus 2` does in two that it spawns and waits for."""
    if options["ranks"] == 1:
        rank_main(0, options)
    else:
        import torch

        torch.multiprocessing.start_processes(rank_main, (options,), nprocs=2, start_method=options["method"])


def serve() -> None:
    """Fork trainings that need not import torch again: reads requests from stdin, a JSON object a line, and answers.

    `{"options": ..., "environment": ..., "log": ...}` starts one in a process group of its own: `{"pid": ...}`.
    `{"wait": pid}` waits for its end: `{"returncode": ...}` as subprocess has it.
    """
    import nnunet_xlstm.trainers.nnUNetTrainerDINO
    import nnunet_xlstm.trainers.nnUNetTrainerPool
    import nnunet_xlstm.trainers.nnUNetTrainerXLSTMUNetShort  # noqa: F401
    import nnunetv2.run.run_training  # noqa: F401

    gc.freeze()  # collections in the forked processes do not touch, and so copy, what is there now
    context, processes = multiprocessing.get_context("fork"), {}
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            process = processes.pop(request["wait"])
            process.join()
            print(json.dumps({"returncode": process.exitcode}), flush=True)
        else:
            process = context.Process(target=_forked, args=(request,))
            process.start()
            processes[process.pid] = process


def _forked(request: dict) -> None:
    os.setsid()
    print(json.dumps({"pid": os.getpid()}), flush=True)  # its group is there now
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.environ |= request["environment"]
    start(request["options"])


if __name__ == "__main__":
    serve() if sys.argv[1] == "--serve" else start(json.loads(sys.argv[1]))
