"""Reads STL, PLY and VTP files by the few lines that each format needs; not a test."""

import base64
import xml.etree.ElementTree as ET

import numpy as np


def read_stl(path):
    data = path.read_bytes()
    count = int(np.frombuffer(data, "<u4", 1, 80)[0])
    rows = np.frombuffer(data, np.dtype([("f", "<f4", (4, 3)), ("w", "<u2")]), count, 84)
    assert len(data) == 84 + 50 * count
    return data[:80], rows["f"][:, 0], rows["f"][:, 1:]


def read_ply(path):
    head, _, data = path.read_bytes().partition(b"end_header\n")
    lines = head.decode("ascii").splitlines()
    points, faces = (int(line.split()[-1]) for line in lines if line.startswith("element"))
    rows = np.frombuffer(data, np.dtype([("n", "u1"), ("v", "<i4", 3)]), faces, 12 * points)
    assert len(data) == 12 * points + 13 * faces and (rows["n"] == 3).all()
    return lines, np.frombuffer(data, "<f4", 3 * points).reshape(-1, 3), rows["v"]


def read_vtp(path):
    """Name -> array, and field name -> text."""
    root = ET.parse(path).getroot()
    arrays = {}
    for node in root.iter("DataArray"):
        data = base64.b64decode(node.text)
        assert int(np.frombuffer(data, "<u8", 1)[0]) == len(data) - 8
        kind = {"Float32": "<f4", "Int64": "<i8", "Int32": "<i4"}[node.get("type")]
        arrays[node.get("Name")] = np.frombuffer(data, kind, offset=8).reshape(-1, int(node.get("NumberOfComponents")))
    fields = {n.get("Name"): bytes(map(int, n.text.split()))[:-1].decode() for n in root.iter("Array")}
    return arrays, fields
