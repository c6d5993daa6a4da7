"""Files: round trips, exchange with other programs, and files that lie."""

import io
import json
import os
import pickle
import stat
import tracemalloc
import zipfile

import numpy as np
import pytest

from fastconv import nn
from fastconv.nn import serialize

SUFFIXES = [".safetensors", ".npz"]

DTYPES = ["?", "u1", "i1", "u2", "i2", "f2", "u4", "i4", "f4", "u8", "i8", "f8"]


def small_model():
    rng = np.random.default_rng(0)
    return nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=((1, 0), (2, 1)), rng=rng), nn.BatchNorm2d(2), nn.ReLU(),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.Residual(nn.Conv2d(2, 4, 1, rng=rng), nn.Conv2d(2, 4, 1, bias=False, rng=rng)),
        nn.Concat(nn.Sequential(), nn.Conv2d(4, 1, 1, rng=rng)),
        nn.Multiply(nn.Sequential(), nn.AdaptiveMaxPool2d((None, 1))), nn.Flatten(), nn.Dropout(0.3),
        nn.Linear(45, 3, rng=rng), nn.Softmax())


# --- round trips ---

@pytest.mark.parametrize("suffix", SUFFIXES)
def test_arrays(tmp_path, suffix):
    rng = np.random.default_rng(0)
    tensors = {f"a.{dtype}": rng.integers(0, 2, size=(3, 5)).astype(dtype) for dtype in DTYPES}
    tensors |= {
        "big endian": np.arange(3, dtype=">f4"), "scalar": np.array(4), "empty": np.zeros((0, 3)),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "sliced": np.arange(10)[::-3],
        "ünï/code": np.ones(1)}
    path = tmp_path / f"arrays{suffix}"
    nn.save(path, tensors, {"classes": '["ä", "b"]'})
    loaded = nn.load(path)
    assert loaded.keys() == tensors.keys()
    for name, array in tensors.items():
        assert loaded[name].dtype == array.dtype.newbyteorder("=")
        assert loaded[name].flags.c_contiguous
        assert loaded[name].flags.writeable
        np.testing.assert_array_equal(loaded[name], array)
    assert nn.read_metadata(path) == {"classes": '["ä", "b"]'}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_nothing(tmp_path, suffix):
    path = tmp_path / f"nothing{suffix}"
    nn.save(path, {})
    assert nn.load(path) == {}
    assert nn.read_metadata(path) == {}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_model(tmp_path, suffix):
    model = small_model()
    x = np.random.default_rng(1).normal(size=(4, 1, 6, 5)).astype(np.float32)
    y, backward = model.forward(x)
    backward(np.ones_like(y))
    nn.Adam(model).step()
    path = tmp_path / f"model{suffix}"
    nn.save_model(path, model, {"classes": "abc"})
    loaded = nn.load_model(path)
    assert repr(loaded) == repr(model)
    np.testing.assert_array_equal(loaded(x), model(x))
    state, loaded_state = model.state_dict(), loaded.state_dict()
    assert state.keys() == loaded_state.keys()
    for name in state:
        assert state[name].dtype == loaded_state[name].dtype
        np.testing.assert_array_equal(state[name], loaded_state[name])
    assert nn.read_metadata(path)["classes"] == "abc"
    history = nn.fit(loaded, x, np.arange(4) % 3, epochs=1)
    assert len(history) == 1


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_same_contents_give_the_same_bytes(tmp_path, suffix):
    paths = [tmp_path / f"{name}{suffix}" for name in "ab"]
    for path in paths:
        nn.save_model(path, small_model())
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_numpy_reads_npz(tmp_path):
    nn.save(tmp_path / "a.npz", {"x.weight": np.arange(6.0).reshape(2, 3)})
    with np.load(tmp_path / "a.npz", allow_pickle=False) as loaded:
        np.testing.assert_array_equal(loaded["x.weight"], np.arange(6.0).reshape(2, 3))
    np.savez(tmp_path / "b.npz", y=np.arange(3), z=np.asfortranarray(np.eye(2)))
    loaded = nn.load(tmp_path / "b.npz")
    np.testing.assert_array_equal(loaded["y"], np.arange(3))
    np.testing.assert_array_equal(loaded["z"], np.eye(2))


def test_safetensors_exchange(tmp_path):
    theirs = pytest.importorskip("safetensors.numpy")
    model = small_model()
    nn.save_model(tmp_path / "ours.safetensors", model)
    loaded = theirs.load_file(tmp_path / "ours.safetensors")
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(loaded[name], array)
    theirs.save_file(model.state_dict(), tmp_path / "theirs.safetensors", metadata={"a": "b"})
    other = small_model()
    other.load_state_dict(nn.load(tmp_path / "theirs.safetensors"))
    assert nn.read_metadata(tmp_path / "theirs.safetensors") == {"a": "b"}


# --- writing ---

def test_safetensors_bytes(tmp_path):
    """The format by its letter, and arrays of wide dtypes first so that each is aligned."""
    path = tmp_path / "a.safetensors"
    nn.save(path, {"b": np.array([True, False, True]), "w": np.array([[1.0, 2.0]], np.float32)}, {"k": "v"})
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    assert length % 8 == 0
    assert json.loads(data[8:8 + length]) == {
        "__metadata__": {"k": "v"}, "w": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]},
        "b": {"dtype": "BOOL", "shape": [3], "data_offsets": [8, 11]}}
    assert data[8 + length:] == np.array([1, 2], "<f4").tobytes() + bytes([1, 0, 1])


@pytest.mark.parametrize(("name", "tensors", "metadata", "error", "text"), [
    ("a.pt", {}, {}, ValueError, "expected .safetensors or .npz"),
    ("a", {}, {}, ValueError, "ending is ''"),
    ("a.safetensors", {"x": np.zeros(2, complex)}, {}, TypeError, "x has dtype complex128"),
    ("a.npz", {"x": np.array([None])}, {}, TypeError, "x has dtype object"),
    ("a.safetensors", {"__metadata__": np.zeros(2)}, {}, ValueError, "no array can be called"),
    ("a.npz", {"__metadata__": np.zeros(2)}, {}, ValueError, "no array can be called"),
    ("a.npz", {}, {"x": 1}, TypeError, "metadata"),
])
def test_what_cannot_be_saved(tmp_path, name, tensors, metadata, error, text):
    with pytest.raises(error, match=text):
        nn.save(tmp_path / name, tensors, metadata)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_failed_save_keeps_the_old_file(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"a{suffix}"
    nn.save(path, {"x": np.ones(3)})
    before = path.read_bytes()

    def full(_):
        raise OSError("disk full")

    monkeypatch.setattr(serialize.os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        nn.save(path, {"x": np.zeros(4)})
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_save_keeps_the_link_and_asks_the_umask(tmp_path):
    (tmp_path / "link.npz").symlink_to("real.npz")
    umask = os.umask(0o027)
    try:
        nn.save(tmp_path / "link.npz", {"x": np.ones(3)})
    finally:
        os.umask(umask)
    assert (tmp_path / "link.npz").is_symlink()
    assert stat.S_IMODE((tmp_path / "real.npz").stat().st_mode) == 0o640


# --- reading what can't be trusted ---

def safetensors_bytes(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(shape, offsets, dtype="F32", **more):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}


HUGE = 2**40
HOSTILE_SAFETENSORS = {
    "empty": b"",
    "short": b"\0" * 7,
    "header beyond the file": safetensors_bytes({}, length=100),
    "header of exabytes": safetensors_bytes({}, length=2**63),
    "header isn't JSON": safetensors_bytes(b"{not json}"),
    "header isn't UTF-8": safetensors_bytes(b'{"\xff": 1}'),
    "header is a list": safetensors_bytes([]),
    "header nests deep": safetensors_bytes(b"[" * 100_000),
    "name twice": safetensors_bytes(b'{"a":%b,"a":%b}' % ((json.dumps(entry([1], [0, 4])).encode(),) * 2), bytes(4)),
    "field twice": safetensors_bytes(b'{"a":{"dtype":"U8","dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4)),
    "entry is a number": safetensors_bytes({"a": 3}),
    "field is missing": safetensors_bytes({"a": {"dtype": "F32", "shape": [1]}}, bytes(4)),
    "field too many": safetensors_bytes({"a": entry([1], [0, 4], more=1)}, bytes(4)),
    "unknown dtype": safetensors_bytes({"a": entry([1], [0, 4], "F31")}, bytes(4)),
    "dtype is a list": safetensors_bytes({"a": entry([1], [0, 4], ["F32"])}, bytes(4)),
    "shape is a number": safetensors_bytes({"a": entry(1, [0, 4])}, bytes(4)),
    "negative extents": safetensors_bytes({"a": entry([-1, -1], [0, 4])}, bytes(4)),
    "extent is a float": safetensors_bytes({"a": entry([1.0], [0, 4])}, bytes(4)),
    "extent is a bool": safetensors_bytes({"a": entry([True], [0, 4])}, bytes(4)),
    "shape beyond the data": safetensors_bytes({"a": entry([HUGE], [0, 4])}, bytes(4)),
    "everything huge": safetensors_bytes({"a": entry([HUGE], [0, 4 * HUGE])}, bytes(4)),
    "product overflows": safetensors_bytes({"a": entry([2**62, 4], [0, 0])}),
    "too many axes": safetensors_bytes({"a": entry([1] * 100, [0, 4])}, bytes(4)),
    "empty and huge": safetensors_bytes({"a": entry([0, 2**62, 2**62], [0, 0])}),
    "one offset": safetensors_bytes({"a": entry([1], [4])}, bytes(4)),
    "negative offset": safetensors_bytes({"a": entry([1], [-4, 0])}, bytes(4)),
    "offsets reversed": safetensors_bytes({"a": entry([1], [4, 0])}, bytes(4)),
    "overlap": safetensors_bytes({"a": entry([2], [0, 8]), "b": entry([2], [4, 12])}, bytes(12)),
    "same range twice": safetensors_bytes({"a": entry([1], [0, 4]), "b": entry([1], [0, 4])}, bytes(4)),
    "hole": safetensors_bytes({"a": entry([1], [0, 4]), "b": entry([1], [8, 12])}, bytes(12)),
    "data beyond the ranges": safetensors_bytes({"a": entry([1], [0, 4])}, bytes(5)),
    "metadata isn't text": safetensors_bytes({"__metadata__": {"a": 1}}),
    "metadata is a list": safetensors_bytes({"__metadata__": []}),
}


def npy_bytes(shape, data=b"", descr="<f4", version=b"\x01\x00"):
    header = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY" + version + len(header).to_bytes(2 if version[0] == 1 else 4, "little") + header + data


def npz_bytes(members, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return file.getvalue()


def npz_with_claimed_size():
    """The directory says that a member of 100 bytes has 2 GiB."""
    data = bytearray(npz_bytes([("a.npy", bytes(100))]))
    directory = data.rindex(b"PK\x01\x02")
    for field in (20, 24):
        data[directory + field:directory + field + 4] = (2**31).to_bytes(4, "little")
    return bytes(data)


def pickled_npz():
    file = io.BytesIO()
    np.savez(file, a=np.array([{"x": 1}], dtype=object))
    return file.getvalue()


def compressed_npz():
    file = io.BytesIO()
    np.savez_compressed(file, a=np.zeros(10_000_000, np.uint8))
    return file.getvalue()


HOSTILE_NPZ = {
    "empty": b"",
    "no archive": b"PK\x03\x04" + bytes(100),
    "objects": pickled_npz(),
    "compressed": compressed_npz(),
    "claimed size": npz_with_claimed_size(),
    "no array": npz_bytes([("a.npy", b"")]),
    "a pickle": npz_bytes([("a.npy", pickle.dumps([1, 2, 3]))]),
    "shape beyond the data": npz_bytes([("a.npy", npy_bytes((HUGE,), bytes(4)))]),
    "product overflows": npz_bytes([("a.npy", npy_bytes((2**62, 4)))]),
    "negative extents": npz_bytes([("a.npy", npy_bytes((-1, -1), bytes(4)))]),
    "data beyond the shape": npz_bytes([("a.npy", npy_bytes((1,), bytes(5)))]),
    "too many axes": npz_bytes([("a.npy", npy_bytes((1,) * 100, bytes(4)))]),
    "text": npz_bytes([("a.npy", npy_bytes((1,), bytes(8), "<U2"))]),
    "records": npz_bytes([("a.npy", npy_bytes((1,), bytes(8), [("x", "<f4"), ("y", "<f4")]))]),
    "no bytes in an element": npz_bytes([("a.npy", npy_bytes((HUGE,), b"", "<f0"))]),
    "unknown version": npz_bytes([("a.npy", npy_bytes((1,), bytes(4), version=b"\x09\x00"))]),
    "name twice": npz_bytes([(f"{name}.npy", npy_bytes((1,), bytes(4))) for name in "ab"]).replace(b"b.npy", b"a.npy"),
    "metadata isn't JSON": npz_bytes([("__metadata__.npy", npy_bytes((3,), b"abc", "|u1"))]),
    "metadata isn't bytes": npz_bytes([("__metadata__.npy", npy_bytes((1,), bytes(4)))]),
    "metadata isn't text": npz_bytes([("__metadata__.npy", npy_bytes((7,), b'{"a":1}', "|u1"))]),
}


def read_hostile(path, data, read=nn.load):
    """Whatever `read` raises, after a check that it took hardly any memory."""
    path.write_bytes(data)
    tracemalloc.start()
    try:
        read(path)
    except Exception as error:
        return error
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 2_000_000 + 20 * len(data)


@pytest.mark.parametrize("case", HOSTILE_SAFETENSORS)
@pytest.mark.parametrize("read", [nn.load, nn.read_metadata, nn.load_model], ids=lambda read: read.__name__)
def test_hostile_safetensors(tmp_path, case, read):
    path = tmp_path / "a.safetensors"
    error = read_hostile(path, HOSTILE_SAFETENSORS[case], read)
    assert type(error) is ValueError
    assert str(error).startswith(f"{path}: ")
    assert len(str(error)) < len(str(path)) + 400


@pytest.mark.parametrize("case", HOSTILE_NPZ)
def test_hostile_npz(tmp_path, case):
    path = tmp_path / "a.npz"
    error = read_hostile(path, HOSTILE_NPZ[case])
    assert type(error) is ValueError
    assert str(error).startswith(f"{path}: ")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_truncation_is_found(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    nn.save(path, {"w": np.arange(5.0), "b": np.arange(3)}, {"k": "v"})
    data = path.read_bytes()
    for length in range(len(data)):
        assert type(read_hostile(path, data[:length])) is ValueError, length


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damage_gives_arrays_or_a_value_error(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    nn.save_model(path, nn.Sequential(nn.Conv1d(1, 2, 3, rng=0), nn.Flatten(), nn.Linear(4, 2, rng=0)))
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(400):
        damaged = bytearray(data)
        for position in rng.integers(len(data), size=rng.integers(1, 4)):
            damaged[position] ^= 1 << int(rng.integers(8))
        error = read_hostile(path, bytes(damaged), nn.load_model)
        assert error is None or type(error) is ValueError, repr(error)


ARCHITECTURES = {
    "none": None,
    "no JSON": "{",
    "a list": "[]",
    "no type": "{}",
    "unknown layer": json.dumps({"type": "os.system"}),
    "type is a list": json.dumps({"type": ["Linear"]}),
    "no layer but a name of the package": json.dumps({"type": "fit"}),
    "unknown argument": json.dumps({"type": "ReLU", "inplace": True}),
    "missing argument": json.dumps({"type": "Linear", "in_features": 3}),
    "argument of another type": json.dumps({"type": "Linear", "in_features": "3", "out_features": 2}),
    "argument is an unknown layer": json.dumps({"type": "Residual", "body": {"type": "Evil"}}),
    "dtype is no float": json.dumps({"type": "Linear", "in_features": 3, "out_features": 2, "dtype": "O"}),
    "layers of another size": json.dumps({"type": "Linear", "in_features": 3, "out_features": 3}),
    "gigantic layer": json.dumps({"type": "Linear", "in_features": 10**6, "out_features": 10**6}),
    "gigantic buffers": json.dumps({"type": "BatchNorm1d", "num_features": 10**12, "affine": False}),
    "beyond any address": json.dumps({"type": "Linear", "in_features": 10**30, "out_features": 10**30}),
    "deep": '{"type":"Residual","body":' * 500 + '{"type":"ReLU"}' + "}" * 500,
    "deeper": '{"type":"Residual","body":' * 100_000,
    "deep list": '{"type":"Conv1d","padding":' + "[" * 500 + "]" * 500 + "}",
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("case", ARCHITECTURES)
def test_hostile_architecture(tmp_path, case, suffix):
    path = tmp_path / f"a{suffix}"
    metadata = {} if ARCHITECTURES[case] is None else {serialize.ARCHITECTURE: ARCHITECTURES[case]}
    nn.save(path, nn.Linear(3, 2).state_dict(), metadata)
    error = read_hostile(path, path.read_bytes(), nn.load_model)
    assert type(error) is ValueError
    assert str(error).startswith(f"{path}: ")
    assert len(str(error)) < len(str(path)) + 700


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        nn.load(tmp_path / "missing.safetensors")
