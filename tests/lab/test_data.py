import gzip
import hashlib
import io
import signal
import subprocess
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pooch
import pytest

from bnlib.lab import originals, subset
from bnlib.lab.data import CLASSES, FashionMNIST, fashion_mnist

SHIPPED_SHA256 = {
    "x_train": "63fa7c5ab126dd4847c3d631dc5e5e9e42f4e7426a8d11988f0d846fa2f1e2d5",
    "y_train": "f16e201ddc15b401c509545575d23793b230f5735ae378c1ced3a6156cb72251",
    "x_test": "e61f33677b95dfed6946d50cbd5b7dc6488fcb8a43aea148bc9ce53b1efc3ad6",
    "y_test": "b2095bc797d1201e84da76c94012c02d0e6f07af0938df4e00120a3b42d1aa4c",
}


def to_bytes(images):
    return np.rint(np.asarray(images, np.float64) * 255).astype(np.uint8)


# The shipped subset


def test_shipped_subset_has_the_promised_shapes_and_types():
    data = fashion_mnist()
    assert [array.shape for array in data] == [(6000, 14, 14), (6000,), (2000, 14, 14), (2000,)]
    assert [array.dtype for array in data] == [np.float32, np.int64, np.float32, np.int64]
    for x in (data.x_train, data.x_test):
        assert (x.min(), x.max()) == (0.0, 1.0)
        assert 0.2 < x.mean() < 0.4


def test_shipped_subset_is_balanced():
    data = fashion_mnist()
    assert len(CLASSES) == 10
    np.testing.assert_array_equal(np.bincount(data.y_train), [600] * 10)
    np.testing.assert_array_equal(np.bincount(data.y_test), [200] * 10)


def test_shipped_arrays_are_the_published_ones():
    data = fashion_mnist()._asdict()
    content = {k: to_bytes(v) if k[0] == "x" else v.astype(np.uint8) for k, v in data.items()}
    assert {k: hashlib.sha256(v.tobytes()).hexdigest() for k, v in content.items()} == SHIPPED_SHA256


@pytest.mark.parametrize("dtype", [np.float16, "float32", np.float64])
def test_dtype_sets_the_precision_of_the_images(dtype):
    data, exact = fashion_mnist(dtype=dtype), fashion_mnist(dtype=np.float64)
    assert data.x_train.dtype == data.x_test.dtype == np.dtype(dtype)
    np.testing.assert_allclose(data.x_test, exact.x_test, rtol=np.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.complex64, bool])
def test_dtype_must_be_floating(dtype):
    with pytest.raises(TypeError, match=f"expected a floating dtype, got {np.dtype(dtype)}"):
        fashion_mnist(dtype=dtype)


def test_each_call_returns_arrays_of_its_own():
    first = fashion_mnist()
    for array in first:
        array[...] = 7
    assert fashion_mnist().x_test.max() == 1
    assert fashion_mnist().y_test.max() == 9


def test_licence_lies_beside_the_data():
    assert "2017 Zalando SE" in (subset.SHIPPED.parent / "LICENSE").read_text(encoding="utf-8")


def test_importing_the_module_loads_numpy_alone():
    others = {"torch", "pooch", "tqdm", "requests", "matplotlib"}
    code = f"import sys, bnlib.lab.data; print({others} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# Making the subset


def test_halving_takes_the_mean_rounded_halves_up():
    image = np.array([[[0, 1, 255, 255], [0, 1, 255, 255], [1, 0, 7, 0], [0, 0, 0, 0]]], np.uint8)
    np.testing.assert_array_equal(subset.halve(image), [[[1, 255], [0, 2]]])


def test_the_first_of_each_class_keep_their_order():
    labels = np.array([2, 0, 0, 2, 1, 0, 2, 1, 1], np.uint8)
    np.testing.assert_array_equal(subset.first_of_each_class(labels, 2), [0, 1, 2, 3, 4, 7])


def test_archive_is_deterministic_and_readable():
    arrays = {"a": np.arange(6, dtype=np.uint8).reshape(2, 3), "b": np.zeros(0, np.uint8)}
    packed = subset.archive(arrays)
    assert packed == subset.archive(arrays)
    with np.load(io.BytesIO(packed)) as loaded:
        assert loaded.files == ["a", "b"]
        for name, array in arrays.items():
            np.testing.assert_array_equal(loaded[name], array)
    with zipfile.ZipFile(io.BytesIO(packed)) as file:
        assert {(m.date_time[0], m.create_system) for m in file.infolist()} == {(1980, 3)}


def members(file):
    """What an archive holds; leaves out only how zlib, in its version, compresses it."""
    with zipfile.ZipFile(file) as opened:
        return [(m.filename, m.date_time, m.external_attr, opened.read(m)) for m in opened.infolist()]


@pytest.mark.skipif(
    not all((originals.DEBIAN / o.name).is_file() for o in originals.ORIGINALS.values()),
    reason="Debian's package dataset-fashion-mnist is not installed",
)
def test_full_set_and_the_subset_made_from_it(tmp_path, monkeypatch):
    monkeypatch.setattr(originals, "SITE", "http://127.0.0.1:9/")
    read = originals.read_all()
    monkeypatch.setattr(originals, "read_all", lambda: read)
    data = fashion_mnist(full=True, dtype=np.float16)
    assert [array.shape for array in data] == [(60000, 28, 28), (60000,), (10000, 28, 28), (10000,)]
    assert [array.dtype for array in data] == [np.float16, np.int64, np.float16, np.int64]
    np.testing.assert_array_equal(to_bytes(data.x_test[:500]), read["x_test"][:500])
    np.testing.assert_array_equal(np.bincount(data.y_train), [6000] * 10)
    np.testing.assert_array_equal(np.bincount(data.y_test), [1000] * 10)
    subset.main(tmp_path / "made.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["made.npz"]
    assert members(tmp_path / "made.npz") == members(subset.SHIPPED)


# The idx format


def idx(array):
    return bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def test_idx_round_trip():
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    np.testing.assert_array_equal(originals.parse_idx(idx(array), (2, 3, 4)), array)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected magic number 0x00000802, got 0x$"),
        (b"\x00\x00\x0d\x02" + bytes(14), "expected magic number 0x00000802, got 0x00000d02"),
        (b"\x00\x00\x08\x01" + bytes(14), "expected magic number 0x00000802, got 0x00000801"),
        (b"\x00\x00\x08\x02" + bytes(7), "expected a header of 12 bytes, got 11 bytes"),
        (idx(np.zeros((3, 2), np.uint8)), r"expected shape \(2, 3\), got \(3, 2\)"),
        (idx(np.zeros((2, 3), np.uint8))[:-1], "expected 6 bytes of data, got 5"),
        (idx(np.zeros((2, 3), np.uint8)) + b"\x00", "expected 6 bytes of data, got 7"),
    ],
)
def test_idx_rejects_what_it_does_not_expect(content, message):
    with pytest.raises(ValueError, match=f"idx: {message}"):
        originals.parse_idx(content, (2, 3))


# The full set from Debian's package, the cache and the site, on tiny files of the same form


class Site:
    """A web site on this machine: `content` by path, `faults` by path, and the paths asked for."""

    def __init__(self):
        self.content = {}
        self.faults = {}
        self.asked = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                name = self.path.lstrip("/")
                site.asked.append(name)
                site.faults.get(name, Site.send)(self, site.content[name])

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    @staticmethod
    def send(handler, content, length=None):
        handler.send_response(200)
        handler.send_header("Content-Length", str(length or len(content)))
        handler.end_headers()
        handler.wfile.write(content)


def flipped(content):
    half = len(content) // 2
    return content[:half] + bytes((content[half] ^ 1,)) + content[half + 1 :]


def truncated(handler, content):
    Site.send(handler, content[: len(content) // 2], length=len(content))


def shortened(handler, content):
    Site.send(handler, content[: len(content) // 2])


def corrupted(handler, content):
    Site.send(handler, flipped(content))


def sign_in_page(handler, content):
    Site.send(handler, b"<html>Please sign in</html>")


def absent(handler, content):
    handler.send_error(404)


@pytest.fixture
def tiny():
    """Arrays in place of the full set; the largest takes several chunks to download."""
    rng = np.random.default_rng(0)
    shapes = {"x_train": (300, 28, 28), "y_train": (300,), "x_test": (2, 28, 28), "y_test": (2,)}
    return {
        key: rng.integers(0, 10 if key[0] == "y" else 256, shape, np.uint8) for key, shape in shapes.items()
    }


@pytest.fixture
def site(tiny, tmp_path, monkeypatch):
    described = {}
    with Site() as site:
        for key, array in tiny.items():
            content = idx(array)
            packed = gzip.compress(content, mtime=0)
            name = originals.ORIGINALS[key].name
            site.content[name] = packed
            described[key] = originals.Original(
                name, array.shape, hashlib.sha256(content).hexdigest(), hashlib.md5(packed).hexdigest()
            )
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("BNLIB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(originals, "SITE", site.url)
        monkeypatch.setattr(originals, "DEBIAN", tmp_path / "debian")
        monkeypatch.setattr(originals, "ORIGINALS", described)
        yield site


@pytest.fixture
def cache(tmp_path, site):
    folder = tmp_path / "cache" / "fashion-mnist"
    folder.mkdir(parents=True)
    return folder


def fill(folder, site):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in site.content.items():
        (folder / name).write_bytes(content)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def assert_same(data, tiny):
    assert isinstance(data, FashionMNIST)
    for key, array in data._asdict().items():
        np.testing.assert_array_equal(to_bytes(array) if key[0] == "x" else array, tiny[key])


def test_download_shows_its_progress_and_is_not_repeated(site, tiny, cache, monkeypatch, capfd):
    assert_same(fashion_mnist(full=True), tiny)
    shown = capfd.readouterr()
    assert shown.out == ""
    assert all(name in shown.err for name in site.content)
    assert "100%" in shown.err
    assert names(cache) == sorted(site.content)
    assert sorted(site.asked) == sorted(site.content)
    monkeypatch.setattr(originals, "SITE", "http://127.0.0.1:9/")
    assert_same(fashion_mnist(full=True), tiny)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("fault", [truncated, shortened, corrupted, sign_in_page, absent])
@pytest.mark.parametrize("key", ["x_train", "y_test"])
def test_broken_download_leaves_nothing_behind(site, tiny, cache, fault, key):
    name = originals.ORIGINALS[key].name
    site.faults[name] = fault
    with pytest.raises(ConnectionError, match=f"could not download {site.url}{name}"):
        fashion_mnist(full=True)
    assert set(names(cache)) < set(site.content)
    assert name not in names(cache)
    del site.faults[name]
    assert_same(fashion_mnist(full=True), tiny)


def test_download_with_the_wrong_content_is_removed(site, cache, monkeypatch):
    wrong = gzip.compress(b"other")
    first = originals.ORIGINALS["x_train"]
    site.content[first.name] = wrong
    changed = first._replace(md5_of_gzip=hashlib.md5(wrong).hexdigest())
    monkeypatch.setattr(originals, "ORIGINALS", {**originals.ORIGINALS, "x_train": changed})
    with pytest.raises(ConnectionError, match="expected SHA-256"):
        fashion_mnist(full=True)
    assert names(cache) == []


DAMAGE = {
    "empty": lambda content: b"",
    "cut": lambda content: content[:-9],
    "not gzip": lambda content: b"<html>",
    "flipped": flipped,
    "longer": lambda content: gzip.compress(gzip.decompress(content) + b"\0"),
    "other": lambda content: gzip.compress(bytes(len(gzip.decompress(content)))),
}


@pytest.mark.parametrize("form", DAMAGE)
def test_damaged_file_in_the_cache_is_downloaded_anew_once(site, tiny, cache, form):
    fill(cache, site)
    name = originals.ORIGINALS["x_test"].name
    (cache / name).write_bytes(DAMAGE[form](site.content[name]))
    with pytest.warns(RuntimeWarning, match=f"{name} is damaged"):
        assert_same(fashion_mnist(full=True), tiny)
    assert site.asked == [name]
    assert (cache / name).read_bytes() == site.content[name]
    assert names(cache) == sorted(site.content)


def test_damaged_file_in_the_cache_is_not_used_offline(site, cache, monkeypatch):
    fill(cache, site)
    name = originals.ORIGINALS["x_test"].name
    (cache / name).write_bytes(b"")
    monkeypatch.setattr(originals, "SITE", "http://127.0.0.1:9/")
    with pytest.warns(RuntimeWarning, match=f"{name} is damaged"), pytest.raises(ConnectionError):
        fashion_mnist(full=True)


def test_damaged_file_of_debian_gives_way_to_a_download(site, tiny, cache):
    fill(originals.DEBIAN, site)
    name = originals.ORIGINALS["y_train"].name
    (originals.DEBIAN / name).write_bytes(flipped(site.content[name]))
    with pytest.warns(RuntimeWarning, match=f"debian/{name} is damaged"):
        assert_same(fashion_mnist(full=True), tiny)
    assert site.asked == [name]


def test_files_of_debian_need_neither_network_nor_cache(site, tiny, tmp_path):
    fill(originals.DEBIAN, site)
    assert_same(fashion_mnist(full=True), tiny)
    assert site.asked == []
    assert not (tmp_path / "cache").exists()


def test_files_put_into_the_cache_by_hand_may_be_compressed_otherwise(site, tiny, cache):
    for name, content in site.content.items():
        (cache / name).write_bytes(gzip.compress(gzip.decompress(content), compresslevel=1, mtime=5))
    assert_same(fashion_mnist(full=True), tiny)
    assert site.asked == []


def test_offline_it_says_what_to_do(site, cache, monkeypatch):
    monkeypatch.setattr(originals, "SITE", "http://127.0.0.1:9/")
    with pytest.raises(ConnectionError) as caught:
        fashion_mnist(full=True)
    for part in ("http://127.0.0.1:9/train-images", "full=False", "dataset-fashion-mnist", str(cache)):
        assert part in str(caught.value)
    assert names(cache) == []


def test_interrupted_download_leaves_nothing_behind(site, tiny, cache):
    first = originals.ORIGINALS["x_train"]
    half_sent, go_on = threading.Event(), threading.Event()

    def stalled(handler, content):
        truncated(handler, content)
        half_sent.set()
        go_on.wait(10)

    site.faults[first.name] = stalled
    code = f"""
import signal
from bnlib.lab import data, originals
signal.signal(signal.SIGINT, signal.default_int_handler)
originals.SITE, originals.DEBIAN = {site.url!r}, originals.Path("/nowhere")
originals.ORIGINALS = {{"x_train": originals.Original{tuple(first)!r}}}
try:
    data.fashion_mnist(full=True)
except KeyboardInterrupt:
    print("interrupted")
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert half_sent.wait(10)
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=10)
    go_on.set()
    assert out.strip() == "interrupted", err
    assert names(cache) == []
    site.faults.clear()
    assert_same(fashion_mnist(full=True), tiny)


def test_two_downloads_at_once_do_not_disturb_each_other(site, tiny, cache):
    both_here = threading.Barrier(2, timeout=10)

    def together(handler, content):
        both_here.wait()
        Site.send(handler, content)

    site.faults[originals.ORIGINALS["x_train"].name] = together
    with ThreadPoolExecutor(2) as pool:
        for data in [pool.submit(fashion_mnist, full=True) for _ in range(2)]:
            assert_same(data.result(timeout=20), tiny)
    assert names(cache) == sorted(site.content)


@pytest.mark.parametrize("package", ["pooch", "tqdm"])
@pytest.mark.parametrize("chosen", [True, False])
def test_missing_package_is_named_with_its_extra(site, monkeypatch, package, chosen):
    if not chosen:
        monkeypatch.delenv("BNLIB_CACHE")
        monkeypatch.setenv("XDG_CACHE_HOME", str(originals.DEBIAN))
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r"bnlib\[data\].*" + package):
        fashion_mnist(full=True)


def test_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("BNLIB_CACHE", str(tmp_path))
    assert originals.cache_folder() == tmp_path / "fashion-mnist"
    monkeypatch.setenv("BNLIB_CACHE", "~/data")
    assert originals.cache_folder() == Path.home() / "data" / "fashion-mnist"
    monkeypatch.delenv("BNLIB_CACHE")
    assert originals.cache_folder() == Path(pooch.os_cache("bnlib")) / "fashion-mnist"
