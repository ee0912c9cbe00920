"""Random numbers of augmentation workers."""

import pickle

import numpy as np
import torch

from nnunet_xlstm.nnunet.loading.augmentation import ReseedPerWorker


def _draw(transform, queue):
    queue.put(transform()["x"])


def test_workers_draw_different_torch_numbers():
    import multiprocessing

    transform = ReseedPerWorker(_Draw())
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    for seed in (1, 2):
        np.random.seed(seed)
        process = context.Process(target=_draw, args=(transform, queue))
        process.start()
        process.join()
    assert queue.get() != queue.get()
    assert pickle.loads(pickle.dumps(transform)).transform.__class__ is _Draw


class _Draw:
    def __call__(self):
        return {"x": torch.rand(1).item()}
