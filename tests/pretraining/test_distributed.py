"""Two processes with half a batch each do what one process does with the whole."""

import copy

import pytest
import torch
from support.ssl_toys import ToyEncoder, part, random_batch, small_config, trainable
from torch import distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel

from nnunet_xlstm.pretraining.student_teacher import StudentTeacher

# A queue that does not overflow: ranks push in another order, so other vectors would fall out.
KEYS = {"mse_weight": 1.0, "freeze_prototypes_epochs": 0, "queue_size": 64}


def steps(model, method, batches):
    optimizer = torch.optim.SGD(trainable(method).values(), 0.1)
    for step, batch in enumerate(batches):
        method.set_step(step, 4, 2)
        optimizer.zero_grad()
        model(batch)["loss"].backward()
        optimizer.step()
        method.end_step(step, 4)
    return method.state_dict()


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    method, batches = torch.load(f"{folder}/start.pt", weights_only=False)
    model = DistributedDataParallel(method, broadcast_buffers=False)  # raises on unused parameters at the second step
    state = steps(model, method, [part(batch, slice(2 * rank, 2 * rank + 2)) for batch in batches])
    torch.save(state, f"{folder}/{rank}.pt")
    distributed.barrier()  # nobody leaves while the other still reads
    distributed.destroy_process_group()


@pytest.fixture
def double():
    """The toy heads put out nearly nothing, whose normalisation magnifies rounding a hundred thousand times."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.slow
@pytest.mark.parametrize("centering", ["running", "sinkhorn"])
def test_two_ranks_equal_one(tmp_path, double, centering):
    method = StudentTeacher(ToyEncoder(), 1, (16, 16), small_config(centering=centering, **KEYS))
    batches = [random_batch(4) for _ in range(3)]
    torch.save((method, batches), tmp_path / "start.pt")
    multiprocessing.spawn(work, (str(tmp_path),), nprocs=2)
    alone = copy.deepcopy(method)
    expected = steps(alone, alone, batches)
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for name, value in expected.items():
        assert torch.equal(ranks[0][name], ranks[1][name]), name
        if "queue" not in name:  # the same vectors, in another order
            assert torch.allclose(ranks[0][name], value, rtol=0, atol=1e-8), name
