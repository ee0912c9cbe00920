"""Binary STL, binary PLY and VTP files; each says in which coordinate system its points are.

"SPACE=LPS" in the header of STL and PLY, and a field SPACE in VTP, are what 3D Slicer writes and reads there.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np

from nnunet_xlstm.io.write import write_bytes, write_text
from nnunet_xlstm.meshes.mesh import cross


def write_stl(path: Path, points: np.ndarray, triangles: np.ndarray, space: str, name: str = "") -> None:
    """Write binary STL: 80 bytes of text, the number of triangles, of each its normal, corners and an empty word."""
    corners = points.astype(np.float32)[triangles]
    a, b, c = np.moveaxis(corners.astype(float), 1, 0)
    normals = cross(b - a, c - a)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    rows = np.zeros(len(triangles), np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("word", "<u2")]))
    rows["normal"], rows["corners"] = normals, corners
    header = _comment(space, name).encode("ascii")[:80].ljust(80)
    write_bytes(path, header + np.uint32(len(rows)).astype("<u4").tobytes() + rows.tobytes())


def write_ply(path: Path, points: np.ndarray, triangles: np.ndarray, space: str, name: str = "") -> None:
    """Write binary little-endian PLY."""
    header = (
        f"ply\nformat binary_little_endian 1.0\ncomment {_comment(space, name)}\n"
        f"element vertex {len(points)}\nproperty float x\nproperty float y\nproperty float z\n"
        f"element face {len(triangles)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    rows = np.zeros(len(triangles), np.dtype([("count", "u1"), ("corners", "<i4", 3)]))
    rows["count"], rows["corners"] = 3, triangles
    write_bytes(path, header.encode("ascii") + points.astype("<f4").tobytes() + rows.tobytes())


def write_vtp(
    path: Path,
    points: np.ndarray,
    triangles: np.ndarray,
    space: str,
    name: str = "",
    cell_data: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write VTK PolyData as XML with base64 arrays. `cell_data`: name -> (t, components) whole numbers."""
    ends = np.arange(3, 3 * len(triangles) + 1, 3)
    cells = "".join(_array(key, value.astype("<i4"), "Int32") for key, value in (cell_data or {}).items())
    text = (
        '<?xml version="1.0"?>\n'
        '<VTKFile type="PolyData" version="1.0" byte_order="LittleEndian" header_type="UInt64">\n<PolyData>\n'
        f"<FieldData>\n{_text('SPACE', space)}{_text('UNIT', 'mm')}{_text('NAME', name)}</FieldData>\n"
        f'<Piece NumberOfPoints="{len(points)}" NumberOfVerts="0" NumberOfLines="0" NumberOfStrips="0" '
        f'NumberOfPolys="{len(triangles)}">\n'
        f"<CellData>\n{cells}</CellData>\n"
        f"<Points>\n{_array('Points', points.astype('<f4'), 'Float32')}</Points>\n"
        f"<Polys>\n{_array('connectivity', triangles.astype('<i8').ravel(), 'Int64')}"
        f"{_array('offsets', ends.astype('<i8'), 'Int64')}</Polys>\n"
        "</Piece>\n</PolyData>\n</VTKFile>\n"
    )
    write_text(path, text)


WRITERS = {"stl": write_stl, "ply": write_ply, "vtp": write_vtp}


def _comment(space: str, name: str) -> str:
    """Return one line of ASCII. It must not begin with "solid", which marks STL as text."""
    plain = " ".join(name.encode("ascii", "replace").decode("ascii").split())
    return f"nnunet_xlstm SPACE={space}; UNIT=mm; {plain}"


def _array(name: str, values: np.ndarray, kind: str) -> str:
    """Return uncompressed inline data: the number of bytes and the bytes, as one base64 text."""
    components = values.shape[1] if values.ndim == 2 else 1
    data = values.tobytes()
    text = base64.b64encode(np.uint64(len(data)).astype("<u8").tobytes() + data).decode("ascii")
    return (
        f'<DataArray type="{kind}" Name={quoteattr(name)} NumberOfComponents="{components}" format="binary">'
        f"{text}</DataArray>\n"
    )


def _text(name: str, value: str) -> str:
    codes = " ".join(str(code) for code in value.encode("utf-8") + b"\0")
    return f'<Array type="String" Name="{name}" NumberOfTuples="1" format="ascii">{codes}</Array>\n'
