"""What several commands print."""

from collections.abc import Sequence


def text_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as aligned lines: the first column to the left, the others to the right."""
    first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
    lines = []
    for name, *cells in rows:
        numbers = (cell.rjust(width) for cell, width in zip(cells, others, strict=True))
        lines.append("  ".join([name.ljust(first), *numbers]).rstrip())
    return lines


def print_summary(dataset, summary, number: int) -> None:
    """What a run of `unlabelled` or `pool build` did, and what comes next."""
    if len(summary.sources) > 1:
        for source, (subjects, cases) in summary.sources.items():
            print(f"{source}: {subjects} subjects, {cases} cases")
    print(f"{dataset.folder}: {summary.subjects} subjects, {summary.cases} cases, {summary.new} of them new")
    if 0 < summary.single_slices < summary.cases:
        print(
            f"{summary.single_slices} of the cases are single slices, {summary.cases - summary.single_slices} are not: "
            "all are 3D files, so nnU-Net plans both"
        )
    if summary.excluded:
        print(f"left out: {summary.excluded}, see {dataset.folder / 'excluded.csv'}")
    if not summary.folds:
        print("fewer than five subjects: there are no folds by subject; train with fold `all`")
    planned = any(dataset.preprocessed.glob("*Plans*.json"))
    if planned and summary.changed:
        print("The data set has changed since it was planned: plan and preprocess again, with --clean")
    elif not planned:
        configuration = "2d" if 2 * summary.single_slices > summary.cases else "3d_fullres"
        print(f"next: nnUNetv2_plan_and_preprocess -d {number} -pl nnUNetPlannerXLSTMUNet -c {configuration}")
