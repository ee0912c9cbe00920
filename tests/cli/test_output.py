"""Tables on the terminal."""

from nnunet_xlstm.cli.output import text_table


def test_names_left_numbers_right():
    assert text_table([["class", "Dice"], ["left ventricle", "0.9"], ["", "-"]]) == [
        "class           Dice",
        "left ventricle   0.9",
        "                   -",
    ]


def test_one_column():
    assert text_table([["a"], ["bcd "]]) == ["a", "bcd"]
