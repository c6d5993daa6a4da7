"""Models, checkpoints and data files, damaged or made to deceive: one clear error, little memory, no execution."""
import gzip
import io
import json
import os
import pickle
import struct
import tracemalloc
import zipfile
import zlib
from contextlib import suppress
from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastconv import data, nn
from fastconv.classifier import Classifier, small

EXAMPLES = int(os.environ.get("FASTCONV_EXAMPLES", 0))
damaging = settings(max_examples=EXAMPLES or 150, derandomize=not EXAMPLES, database=None, deadline=None,
                    suppress_health_check=list(HealthCheck))


class Trap:
    """Unpickling this would leave a file behind."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def network():
    return nn.Sequential(nn.Conv2d(1, 2, 3, rng=0), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5, rng=1),
                         nn.Linear(8, 2, rng=0))


def run_state():
    model = network()
    return model, nn.AdamW(model)


def save_checkpoint(path):
    model, optimizer = run_state()
    for parameter in model.parameters():
        parameter.grad_buffer()
    optimizer.step()
    nn.save_checkpoint(path, model, optimizer, rng=np.random.default_rng(0), position={"epoch": 1})


def load_checkpoint(path):
    model, optimizer = run_state()
    return nn.load_checkpoint(path, model, optimizer, rng=np.random.default_rng(0))


def save_classifier(path):
    normalisation = data.Normalisation((1.0,), (2.0,))
    Classifier(small((1, 4, 4), 2, np.random.default_rng(0)), ("a", "b"), (1, 4, 4), normalisation).save(path)


def save_picture(path):
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    image.fromarray(pixels).save(path)


def read_picture(path):
    pytest.importorskip("PIL.Image")
    return data.read_image(path, (5, 5), 3)


def save_arrays(path):
    nn.save(path, {"a": np.arange(5.0), "b": np.ones((2, 3), bool)}, {"k": "v"})


def read_stored(path):
    return {name: np.asarray(a) for name, a in data.open_npz(path).items()}


def read_mapped(path):
    return np.asarray(data.open_idx(path))


KINDS = {
    "arrays.safetensors": (save_arrays, nn.load),
    "arrays.npz": (save_arrays, nn.load),
    "model.safetensors": (lambda path: nn.save_model(path, network()), nn.load_model),
    "model.npz": (lambda path: nn.save_model(path, network()), nn.load_model),
    "run.safetensors": (save_checkpoint, load_checkpoint),
    "run.npz": (save_checkpoint, load_checkpoint),
    "classifier.safetensors": (save_classifier, Classifier.load),
    "stored.npz": (save_arrays, read_stored),
    "squeezed.npz": (lambda path: np.savez_compressed(path, a=np.arange(99.0)), read_stored),
    "mapped-ubyte": (lambda path: data.write_idx(path, np.ones((3, 4), np.uint8)), read_mapped),
    "mapped-ubyte.gz": (lambda path: data.write_idx(path, np.ones((3, 4), np.uint8)), read_mapped),
    "plain-ubyte": (lambda path: data.write_idx(path, np.arange(24, dtype=np.int16).reshape(2, 3, 4)), data.read_idx),
    "packed-ubyte.gz": (lambda path: data.write_idx(path, np.arange(24.0).reshape(2, 3, 4)), data.read_idx),
    **{f"picture.{suffix}": (save_picture, read_picture)
       for suffix in ("png", "jpg", "bmp", "gif", "tif", "webp", "ppm")},
}


@cache
def good_bytes(kind, folder):
    path = folder / f"good-{kind}"
    KINDS[kind][0](path)
    return path.read_bytes()


def outcome(path, content, read):
    """What `read` raises, after checks of its words and of the memory that it took."""
    path.write_bytes(content)
    tracemalloc.start()
    try:
        read(path)
        error = None
    except (ValueError, OSError) as raised:
        error = raised
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 4_000_000 + 1100 * len(content)
    if error is not None:
        assert path.name in str(error), error
        assert "\n" not in str(error) and len(str(error)) < len(str(path)) + 700, error
    return error


@st.composite
def damages(draw, content):
    """The content cut, with flipped bits, with bytes put in or taken out, or with a number replaced by a large one."""
    damaged = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(damaged))) if damaged else 0
        kind = draw(st.sampled_from(("cut", "flip", "flip", "flip", "insert", "remove", "large", "double")))
        if kind == "cut":
            del damaged[at:]
        elif kind == "flip" and at < len(damaged):
            damaged[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "insert":
            damaged[at:at] = draw(st.binary(max_size=5))
        elif kind == "remove":
            del damaged[at:at + draw(st.integers(1, 9))]
        elif kind == "large":
            damaged[at:at + 4] = draw(st.sampled_from((b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x00\x00\x00\x80")))
        else:
            damaged += damaged[at:]
    return bytes(damaged)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files(folder, kind):
    content, read = good_bytes(kind, folder), KINDS[kind][1]
    assert outcome(folder / kind, content, read) is None

    @damaging
    @given(damages(content))
    def damage(damaged):
        outcome(folder / kind, damaged, read)

    damage()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", ["model.npz", "arrays.safetensors", "packed-ubyte.gz", "picture.png"])
def test_mislabelled_files(folder, kind, other):
    """The content of one kind of file under the name of another; a picture is a picture by any name."""
    if kind.split(".")[-1] == other.split(".")[-1] or kind.startswith("picture") and other.startswith("picture"):
        return
    error = outcome(folder / kind, good_bytes(other, folder), KINDS[kind][1])
    assert error is not None or "ubyte" in kind and "ubyte" in other


# ---------------------------------------------------------------- made to deceive

def member(name, content, **fields):
    info = zipfile.ZipInfo(name)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


def archive(*members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        for info, content in members:
            zipped.writestr(info, content)
    return file.getvalue()


def npy(header, content=b""):
    text = header if isinstance(header, bytes) else repr(header).encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + content


def npy_of(shape, descr="<f4", content=b""):
    return npy({"descr": descr, "fortran_order": False, "shape": shape}, content)


HEADERS = {
    "calls": b"__import__('os').system('true')", "nested": b"(" * 9000, "minus": b"-" * 9000 + b"1",
    "open": b"{'descr': '",
    "tokens": b"{'descr': 'f4', 'shape': (1L,), 'fortran_order': False, \\", "set": b"{1, 2}", "nothing": b" ",
    "more": b"{'descr': '<f4', 'fortran_order': False, 'shape': (), 'x': 1}", "sum": b"[1] * 10**9",
    "power": b"{'descr': '<f4', 'fortran_order': False, 'shape': (9**9**9,)}", "bytes": bytes(range(256)) * 30,
    "number": b"9" * 9000, "objects": b"{'descr': 'O', 'fortran_order': False, 'shape': ()}",
    "expression": b"{'descr': '<f4', 'fortran_order': False, 'shape': (2 ** 40,)}",
    "unhashable": b"{[]: 1}", "dates": b"{'descr': '<M8[s]', 'fortran_order': False, 'shape': (1,)}",
    "text": b"{'descr': '<f4', 'fortran_order': 'no', 'shape': (1,)}",
}


@pytest.mark.parametrize("case", HEADERS)
def test_headers_of_arrays(tmp_path, case):
    content = archive(member("a.npy", npy(HEADERS[case], bytes(4))))
    assert type(outcome(tmp_path / "a.npz", content, nn.load)) is ValueError


def bomb(levels=64):
    return zlib.compress(bytes(levels << 20), 9)


def test_archives_that_unpack_to_more_than_they_are(tmp_path):
    deflated = zipfile.ZIP_DEFLATED
    huge = npy_of((1 << 26,), "|u1", bytes(1 << 26))
    for content in (archive(member("a.npy", huge, compress_type=deflated)),
                    archive(member("a.npy", huge, compress_type=zipfile.ZIP_LZMA)),
                    gzip.compress(archive(member("a.npy", npy_of((), content=bytes(4)))))):
        assert type(outcome(tmp_path / "a.npz", content, nn.load)) is ValueError


def test_archives_with_members_in_one_place(tmp_path):
    """Many entries of the directory that name the same bytes."""
    content = bytearray(archive(*(member(f"{i}.npy", npy_of((1000,), "|u1", bytes(1000)) if not i else b"")
                                  for i in range(9))))
    start = content.index(b"PK\x01\x02")
    entry = content[start:start + 46 + len("0.npy")]
    records = b"".join(bytes(entry[:46]) + f"{i}.npy".encode() for i in range(9))
    content[start:start + len(records)] = records
    assert type(outcome(tmp_path / "a.npz", bytes(content), nn.load)) is ValueError


@pytest.mark.parametrize("name", ["../../evil", "/etc/passwd", "..\\evil", "a/../../b", "C:evil", ".", "\x00", "a\nb"])
@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_names_are_no_paths(tmp_path, name, suffix):
    """They are keys and nothing else: nothing is written or read elsewhere, and models don't know them."""
    path = tmp_path / f"inner{suffix}"
    with suppress(ValueError):
        nn.save(path, {name: np.ones(2)})
        loaded = nn.load(path)
        assert len(loaded) == 1 and os.listdir(tmp_path) == [path.name]
        error = outcome(path, path.read_bytes(), nn.load_model)
        assert type(error) is ValueError


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_nothing_is_unpickled(tmp_path, suffix):
    sign = tmp_path / "executed"
    file = io.BytesIO()
    np.savez(file, a=np.array([Trap(sign)], dtype=object))
    pickled = pickle.dumps(Trap(sign))
    for content in (file.getvalue(), pickled, archive(member("a.npy", pickled)), archive(member("data.pkl", pickled)),
                    archive(member("a.npy", npy_of((1,), "|O", pickled)))):
        assert type(outcome(tmp_path / f"a{suffix}", content, nn.load)) is ValueError
    assert not sign.exists()


def test_postscript_under_the_name_of_a_picture(tmp_path):
    """Pillow would hand it to Ghostscript."""
    pytest.importorskip("PIL")
    for name in ("a.png", "a.jpg"):
        error = outcome(tmp_path / name, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n", read_picture)
        assert type(error) is ValueError


def test_pictures_that_unpack_to_more_than_they_are(tmp_path):
    pytest.importorskip("PIL")

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    for side in (10_000, 100_000, 2**31 - 1):
        content = (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
                   + chunk(b"IDAT", bomb()) + chunk(b"IEND", b""))
        assert type(outcome(tmp_path / "a.png", content, read_picture)) is ValueError


@pytest.mark.parametrize("shape", [(0, 2**32 - 1, 2**32 - 1), (2**32 - 1,) * 16, (2**31, 2**31), (0,) * 16])
def test_sizes_that_cannot_be(tmp_path, shape):
    content = bytes([0, 0, 0x0E, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
    for name, packed in (("a", content), ("a.gz", gzip.compress(content))):
        error = outcome(tmp_path / name, packed, data.read_idx)
        assert error is None and not any(shape) or type(error) is ValueError


def test_gzip_bombs(tmp_path):
    """Honest about their size, they are read; else no further than they say."""
    header = bytes([0, 0, 8, 1])
    lying = gzip.compress(header + struct.pack(">I", 100) + bytes(1 << 26))
    assert type(outcome(tmp_path / "a.gz", lying, data.read_idx)) is ValueError
    empty = gzip.compress(b"") * 1000 + gzip.compress(header + struct.pack(">I", 2**32 - 1))
    assert type(outcome(tmp_path / "a.gz", empty, data.read_idx)) is ValueError


DESCRIPTIONS = {
    "huge number": {"mean": [10**400]}, "no number": {"std": [float("nan")]}, "zero": {"std": [0]},
    "huge image": {"image_shape": [1, 4096, 4096]}, "image": {"image_shape": [1, 1e9, 4]}, "classes": {"classes": {}},
    "names": {"classes": [["a"], "b"]}, "missing": {"mean": None}, "long": {"classes": ["a"] * 10_000},
}


@pytest.mark.parametrize("case", DESCRIPTIONS)
def test_descriptions_of_classifiers(tmp_path, case):
    path = tmp_path / "a.safetensors"
    about = {"classes": ["a", "b"], "image_shape": [1, 4, 4], "mean": [0.0], "std": [1.0]} | DESCRIPTIONS[case]
    nn.save_model(path, small((1, 4, 4), 2, np.random.default_rng(0)), {"fastconv.classifier": json.dumps(about)})
    with pytest.raises(ValueError, match="a.safetensors: "):
        Classifier.load(path)


def test_architecture_that_grows_beyond_memory(tmp_path):
    """The padding of one layer asks for exabytes as soon as an image comes: the file is refused."""
    path = tmp_path / "a.safetensors"
    grown = nn.Sequential(nn.Conv2d(1, 1, 1, padding=2**29, rng=0), nn.Flatten(), nn.Linear(4, 2, rng=0))
    about = {"classes": ["a", "b"], "image_shape": [1, 4, 4], "mean": [0.0], "std": [1.0]}
    nn.save_model(path, grown, {"fastconv.classifier": json.dumps(about)})
    with pytest.raises(ValueError, match="a.safetensors: "):
        Classifier.load(path)
