"""The table of choices names what the library has."""

from nnunet_xlstm import choices
from nnunet_xlstm.evaluation.score import SCORES_OF_BOTH_EMPTY
from nnunet_xlstm.meshes.run import AXES
from nnunet_xlstm.meshes.write import WRITERS
from nnunet_xlstm.studies.job_array import SCHEDULERS
from nnunet_xlstm.studies.kinds import KINDS


def test_what_has_a_table_of_its_own_has_the_same_names():
    assert choices.STUDIES == tuple(KINDS)
    assert choices.SCHEDULERS == tuple(SCHEDULERS)
    assert choices.MESH_FORMATS == tuple(WRITERS)
    assert choices.SPACES == tuple(AXES)
    assert choices.BOTH_EMPTY == tuple(SCORES_OF_BOTH_EMPTY)
