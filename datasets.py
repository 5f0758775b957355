"""What the scripts share: data, your own pictures, texts and series, minibatches, weights, plots, errors.

    data = load("mnist")                   # one row per example, images as uint8
    for X, y in minibatches(data.X_train, data.y_train, 128, rng): ...   # batch last, float32

Generated or built in: blobs, xor, moons, circles, spirals, sine, iris, digits.
Downloaded on first use into data/ (or $DATASETS_DIR): mnist, fashion, kmnist, cats-dogs.
Any other name is taken as the path of a folder of pictures, with one sub-folder per class.
"""
import argparse
import csv
import gzip
import hashlib
import math
import os
import re
import shutil
import sys
import tempfile
import textwrap
import time
import urllib.request
import warnings
import zlib
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import numpy as np

Data = namedtuple("Data", "name X_train y_train X_test y_test classes turned", defaults=[False])
Data.__doc__ += """

X: one row per example; uint8 images (n, height, width), or float features (n, D).
y: class numbers (n,), or float targets (n, 1). classes: the class names; () for regression.
turned: True if the pictures were dark on light and have been turned into their negatives."""

class UserError(Exception):
    """Something the user can fix, explained in one sentence."""

class Unavailable(UserError):
    """The data are not on disk and cannot be downloaded."""

def _numbers(text, digits):
    """The numbers in a text, each `digits` digits long."""
    return np.frombuffer("".join(text.split()).encode(), f"S{digits}").astype(int)

# --- Generated in the plane, and one curve --------------------------------------------------------------

def split(name, X, y, classes, rng):
    """Data with a fifth of every class (for regression, of all examples) held out as the test set."""
    groups = [np.flatnonzero(y == k) for k in range(len(classes))] if classes else [np.arange(len(y))]
    parts = [np.split(rng.permutation(rows), [max(1, round(len(rows) / 5))]) for rows in groups]
    test, train = map(np.concatenate, zip(*parts))
    if not len(train):
        raise UserError(f"{name} has too few examples to hold some of them out")
    return Data(name, X[train], y[train], X[test], y[test], classes)

def _generated(name, rng, n=500):
    """n random points in the plane per class, as complex numbers; for `sine`, points of a noisy curve. (A new
    set needs a branch here, and its name in _NAMES.)"""
    def noise(size):
        return size * (rng.standard_normal(n) + 1j * rng.standard_normal(n))

    if name == "sine":
        x = rng.uniform(-1, 1, (n, 1))
        return split(name, x, np.sin(2 * np.pi * x) + 0.1 * rng.standard_normal((n, 1)), (), rng)
    if name == "blobs":                                      # two slanted ellipses
        ellipses = (1.5 * rng.standard_normal((2, n)) + 0.5j * rng.standard_normal((2, n))) * np.exp(0.5j)
        clouds = [ellipses[0] - 0.9j, ellipses[1] + 0.9j]
    elif name == "xor":
        clouds = [noise(0.3) + corner * rng.choice([-1, 1], n) for corner in (1 + 1j, 1 - 1j)]
    elif name == "moons":
        upper, lower = np.exp(1j * rng.uniform(0, np.pi, n)), np.exp(1j * rng.uniform(-np.pi, 0, n))
        clouds = [upper - 0.5 - 0.25j + noise(0.12), lower + 0.5 + 0.25j + noise(0.12)]
    elif name == "circles":
        clouds = [radius * np.exp(1j * rng.uniform(0, 2 * np.pi, n)) + noise(0.1) for radius in (0.5, 1.2)]
    elif name == "spirals":
        turns = [np.sqrt(rng.uniform(0.02, 1, n)) for arm in range(3)]
        clouds = [2 * t * np.exp(5j * t + 2j * np.pi * arm / 3) + noise(0.05) for arm, t in enumerate(turns)]
    z = np.concatenate(clouds)
    X = np.stack([z.real, z.imag], axis=1)
    return split(name, X, np.repeat(np.arange(len(clouds)), n), tuple("ABCD"[:len(clouds)]), rng)

# --- Built in: Fisher's iris (1936), in tenths of a centimetre ------------------------------------------

# Per flower: length and width of the sepal, length and width of the petal; 50 setosa, versicolor, virginica.
_IRIS = """
51351402493014024732130246311502503614025439170446341403503415024429140249311501543715024834160248301401
43301101584012025744150454391304513514035738170351381503543417025137150446361002513317054834190250301602
50341604523515025234140247321602483116025434150452411501554214024931150250321202553513024936140144301302
51341502503513034523130344321302503516065138190448301403513816024632140253371502503314027032471464324515
69314915552340136528461557284513633347164924331066294613522739145020351059304215602240106129471456293613
67314414563045155827411062224515562539115932481861284013632549156128471264294313663044146828481467305017
60294515572635105524381155243710582739126027511654304515603445166731471563234413563041135525401355264412
61304614582640125023331056274213573042125729421362294313512530115728411363336025582751197130592163295618
65305822763066214925451773296318672558187236612565325120642753196830552157255020582851246432532365305518
77386722772669236022501569325723562849207728672063274918673357217232601862284818613049186428562172305816
74286119793864206428562263285115612656147730612363345624643155186030481869315421673156246931512358275119
68325923673357256730522363255019653052206234542359305118
"""

# --- Built in: handwritten digits, drawn by code --------------------------------------------------------

# The ways people write each digit. A shape is one or more pen strokes, separated by commas. A stroke is a
# sequence of points, "column row", on a 10 x 10 grid with 00 at the top left. The pen runs smoothly through
# them; a corner is where one stroke ends and another begins. A stroke that ends where it began is a ring.
_STROKES = {
    0: ["40 12 17 49 77 72 40", "60 32 26 39 67 73 60", "61 41 13 17 49 77 73 51", "50 12 06 49 87 93 50"],
    1: ["40 44 49", "22 40, 40 44 49", "22 40, 40 44 49, 29 49 69"],
    2: ["12 30 50 62 54 36 19, 19 49 79", "11 40 71 64 48 29 08 16 46 78 97", "11 40 70, 70 45 09, 09 48 79",
        "22 40 61 53 36 18, 18 07 27 58 89", "31 50 62 55 39, 39 59 78", "01 30 51 54 27 09, 09 17 37 58 88",
        "12 30 50 63 56 38 19 07 16 37 59 88"],
    3: ["11 30 60 72 53 44, 44 65 77 69 39 17", "10 40 70, 70 44, 44 65 77 69 39 17",
        "21 50 62 44, 44 66 58 29 09", "11 40 61 63 44 34 44 65 77 59 29 08",
        "11 40 62 54 34, 34 64 76 58 29 08"],
    4: ["20 13 15, 15 45 75, 60 54 59", "60 33 06, 06 46 86, 60 64 69", "10 13 25 55 74, 70 75 69",
        "20 13 25 54, 80 54 39", "30 14, 14 44 64, 60 54 49"],
    5: ["80 50 20, 20 14, 14 43 64 77 59 29 08", "20 14, 14 43 75 68 39 08, 21 51 80",
        "80 41 23 44 65 57 39 08", "80 50 30, 30 24, 24 45 57 49 18", "81 31, 31 34, 34 64 77 59 29 17"],
    6: ["50 23 06 18 49 67 55 35 17", "71 50 22 15 17 39 59 77 65 45 27", "30 13 16 29 69 87 75 46 28"],
    7: ["11 41 71, 71 45 39", "13 11, 11 41 71, 71 54 39", "11 41 71, 71 45 39, 15 45 75", "11 40 71 54 39"],
    8: ["61 40 21 23 44 66 68 49 28 26 44 63 61", "40 21 23 44 63 61 40, 44 26 28 49 68 66 44",
        "71 40 22 44 66 58 39 18 26 44 80", "72 51 22 35 57 49 27 45 72", "70 41 23 45 57 49 28 36 54 82"],
    9: ["71 50 21 13 25 45 63 71, 71 65 69", "72 50 21 13 35 54 72 65 58 39 18",
        "62 40 21 23 44 63 61, 62 55 39", "60 31 13 24 53 71, 71 54 39", "61 40 22 34 53 61, 61 55 49"]}

# A Catmull-Rom curve from the 2nd to the 3rd of four points: at time t, weight them by [1 t t^2 t^3] @ this.
_CATMULL_ROM = np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]]) / 2

def _pen(shape, steps=12):
    """A shape's points (P, 2) and two matrices (S, P) that map them to the pen's S places and S moves."""
    names, fours = sorted(set(shape.replace(",", " ").split())), []     # strokes that meet share a point
    for stroke in shape.split(","):
        s = [names.index(name) for name in stroke.split()]
        s = [s[-2], *s, s[1]] if s[0] == s[-1] else [s[0], *s, s[-1]]       # a ring wraps round
        fours += zip(s, s[1:], s[2:], s[3:])
    pieces = np.eye(len(names))[np.array(fours)]                        # each selects its four points (4, P)
    powers = np.vander((np.arange(steps) + 0.5) / steps, 4, increasing=True)
    place = powers @ _CATMULL_ROM
    move = powers[:, :3] @ ([[1], [2], [3]] * _CATMULL_ROM[1:]) / steps             # the derivative times dt
    points = np.array([[int(column), int(row)] for column, row in names])
    return points, *(np.concatenate(matrix @ pieces) for matrix in (place, move))

def _draw(rng, shape, count):
    """`count` images (count, 28, 28) uint8 of one shape, each in a different handwriting."""
    def vary(low, high, rows=1, columns=1):
        return rng.uniform(low, high, (count, rows, columns))

    # Vary the handwriting: the points, a smooth warp (waves across the grid), the width, slant and rotation.
    points, places, moves = _pen(shape)
    points = points - 4.5 + vary(-0.65, 0.65, *points.shape)            # 4.5 is the middle of the grid
    points += vary(-1.4, 1.4, 1, 2) * np.sin(points @ vary(-0.45, 0.45, 2, 2) + vary(0, 2 * np.pi, 1, 2))
    x, y = points[:, :, :1] * np.exp(vary(-0.4, 0.3)), points[:, :, 1:]
    x = x - y * vary(-0.25, 0.65)                                       # y runs down: most lean to the right
    turn = vary(-0.25, 0.25)
    x, y = x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)

    # The pen's path (count, S, 1), as in MNIST: longer side about 20 pixels, centre of mass in the middle.
    length = np.hypot(moves @ x, moves @ y)                             # of the path each place represents
    x, y = places @ x, places @ y
    pen = 0.7 * np.exp(vary(-0.4, 0.4))                                 # the pen's radius (sigma) in pixels
    box = np.maximum(np.ptp(x, axis=1, keepdims=True), np.ptp(y, axis=1, keepdims=True))
    scale = (20 - 3 * pen) / box                                        # ink spreads 1.5 sigma to each side
    mass = length / length.sum(axis=1, keepdims=True)
    x, y = (14 + scale * (v - (v * mass).sum(axis=1, keepdims=True)) for v in (x, y))

    # Each place leaves a round drop of ink: a Gaussian across times one down. Drops add up, to at most 1.
    pressure = np.exp(vary(0.5, 1.2))                                   # ink along the middle of a line
    ink = pressure * scale * length / (pen * np.sqrt(2 * np.pi))
    across, down = (np.exp(-((np.arange(28) - v) / pen) ** 2 / 2) for v in (x, y))  # (count, S, 28)
    return (255 * np.minimum((ink * down).transpose(0, 2, 1) @ across, 1)).astype(np.uint8)

def _digits(rng, n):
    """n images (n, 28, 28) uint8 of handwritten digits and their labels (n,), equally many of each digit."""
    labels = rng.permutation(np.arange(n) % 10)
    images, taste = np.empty((n, 28, 28), np.uint8), rng.random(n)      # taste chooses among the shapes
    for digit, shapes in _STROKES.items():
        for i, shape in enumerate(shapes):
            mine = (labels == digit) & (np.floor(taste * len(shapes)) == i)
            images[mine] = _draw(rng, shape, mine.sum())
    return images, labels

# --- Files: found in the data folder, or downloaded into it ---------------------------------------------

_IDX = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz",
        "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")
_HDF5 = ("trainset.hdf5", "testset.hdf5")
_TEN = tuple("0123456789")
_CLOTHES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
_KANA = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")

_FILES = {   # name: classes, file names, their MD5, mirrors (best first)
    "mnist": (_TEN, _IDX, ("f68b3c2dcbeaaa9fbdd348bbdeb94873", "d53e105ee54ea40749a09fcbcd1e9432",
                           "9fb629c4189551a2d022fa330f9573f3", "ec29112dd5afa0611ce80d1b7f02629c"),
              ("https://ossci-datasets.s3.amazonaws.com/mnist/",
               "https://storage.googleapis.com/cvdf-datasets/mnist/")),
    "fashion": (_CLOTHES, _IDX, ("8d4fb7e6c68d591d4c3dfef9ec88bf0d", "25c81989df183df01b3e8a0aad5dffbe",
                                 "bef4ecab320f06d8554ea6380940ec79", "bb300cfdad3c16e7a12a480ee83cd310"),
                ("https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
                 "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/")),
    "kmnist": (_KANA, _IDX, ("bdb82020997e1d708af4cf47b453dcf7", "e144d726b3acfaa3e44228e80efcd344",
                             "5c965bf0a639b31b8f53240b1b52f4d7", "7320c461ea6c1c855c0b718fb2a4b134"),
               ("https://codh.rois.ac.jp/kmnist/dataset/kmnist/",
                "http://codh.rois.ac.jp/kmnist/dataset/kmnist/")),
    "cats-dogs": (("cat", "dog"), _HDF5, ("f6dedfbe05faf8c73544974308297ed2",
                                          "db20838b9630228d4a8c5ef19f4ae021"),
                  ("https://raw.githubusercontent.com/MachineLearnia/Deep-Learning-Youtube/main/datasets/",)),
}

def _download(url, path, md5):
    """Download url. The file `path` appears only once all its bytes have arrived and are right."""
    bar(f"connecting to {url}")
    with urllib.request.urlopen(url, timeout=10) as response:
        size = max(int(response.headers["Content-Length"] or 0), 0)
        blocks = iter(lambda: response.read(2 ** 16), b"")
        body = b"".join(progress(blocks, f"downloading {path.parent.name}/{path.name}", 1 + size // 2 ** 16))
    if len(body) < size:
        raise OSError(f"the connection ended after {len(body):,} of {size:,} bytes")
    if hashlib.md5(body, usedforsecurity=False).hexdigest() != md5:
        raise OSError(f"wrong checksum: got {len(body):,} bytes of something else, perhaps a web page")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:        # each process writes its own part
        part = Path(folder, path.name)
        part.write_bytes(body)
        part.replace(path)

def find(name, file, md5, mirrors):
    """The path of a file of the data set `name`, downloaded on first use from the first mirror that works."""
    folder = Path(os.environ.get("DATASETS_DIR") or Path(__file__).parent / "data").expanduser() / name
    path, failures = folder / file, []
    for mirror in mirrors:
        if not path.exists():                           # another process may have been faster
            try:
                _download(mirror + file, path, md5)
            except Exception as error:                  # a network fails in half a dozen ways
                bar()
                failures.append(f"{mirror.split('/')[2]}: {' '.join(str(error).split()).strip('<>')}")
    if not path.exists():
        raise Unavailable(f"{path} does not exist and cannot be downloaded ({'; '.join(failures)}); "
                          f"put the file there yourself, or choose another --dataset")
    return path

def _read(path):
    """The arrays in a file: gzipped IDX holds images (n, height, width) or labels (n,), HDF5 holds both."""
    try:
        if path.suffix == ".hdf5":
            import h5py
            part = "train" if "train" in path.name else "test"
            with h5py.File(path) as file:
                X, y = file[f"X_{part}"][()], file[f"Y_{part}"][()].ravel()
            if X.dtype != np.uint8 or (y != y.astype(int)).any():
                raise ValueError("it should hold uint8 images and class numbers")
            return X, y
        with gzip.open(path) as file:
            raw, dimensions = file.read(), 3 if "images" in path.name else 1
        magic, *shape = np.frombuffer(raw, ">u4", 1 + dimensions).tolist()     # the size of each dimension
        if magic != 2048 + dimensions:
            raise ValueError(f"its magic number is {magic}, not {2048 + dimensions}")
        return [np.frombuffer(raw, np.uint8, offset=4 + 4 * dimensions).reshape(shape)]
    except ImportError:
        raise UserError("cats-dogs comes as HDF5, which needs one more package: pip install h5py") from None
    except (OSError, EOFError, ValueError, KeyError, TypeError, RuntimeError, zlib.error) as error:
        raise UserError(f"{path} is damaged ({error}); delete it to download it again") from error

def _downloaded(name):
    """A data set from _FILES; checks that its parts fit together."""
    classes, files, sums, mirrors = _FILES[name]
    paths = [find(name, file, md5, mirrors) for file, md5 in zip(files, sums)]
    X_train, y_train, X_test, y_test = (array for path in paths for array in _read(path))
    half = len(paths) // 2                              # an IDX file has images or labels, an HDF5 file both
    for X, y, own in (X_train, y_train, paths[:half]), (X_test, y_test, paths[half:]):
        if (X.ndim != 3 or not X.size or len(X) != len(y) or not 0 <= y.min() <= y.max() < len(classes)
                or X.shape[1:] != X_train.shape[1:]):
            raise UserError(f"the images and labels in {' and '.join(map(str, own))} do not fit together; "
                            "delete them to download them again")
    return Data(name, X_train, y_train.astype(int), X_test, y_test.astype(int), classes)

def read_picture(file):
    """A picture file as an upright grey PIL image without transparency; UserError if it is unreadable."""
    from PIL import Image, ImageOps
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)         # phones take pictures as large
    try:
        with Image.open(file) as image:
            image = ImageOps.exif_transpose(image)      # upright, however the camera was held
            if image.mode.startswith("I"):              # 16 bits, as from a scanner
                image = Image.fromarray((np.asarray(image) / 257).astype(np.uint8))
            grey, alpha = image.convert("RGBA").convert("LA").split()
    except Exception as error:                          # PIL raises half a dozen kinds
        raise UserError(f"cannot read {file} as a picture: {error}") from error
    seen = grey.histogram(alpha)                        # behind dark ink put white, behind light ink black
    paper = "white" if sum(seen[:128]) >= sum(seen[128:]) else "black"
    return Image.composite(grey, Image.new("L", grey.size, paper), alpha)

def prepare(file, data):
    """A picture file in the format of data's pictures (n, 1, H, W): (H, W) uint8. If they are 28 x 28, it is
    treated like MNIST's digits: light ink on black, the longer side 20 pixels, the centre of mass in the
    middle. Otherwise it is only scaled, and inverted if they were. UserError if it is blank or no picture."""
    from PIL import Image
    paper, (H, W) = read_picture(file), data.X_train.shape[2:]
    if (H, W) != (28, 28):
        grey = np.asarray(paper.resize((W, H)))
        return 255 - grey if data.turned else grey
    paper.thumbnail((150, 150))
    grey = np.asarray(paper, np.float64)
    terms = np.stack([np.ones(grey.size), *np.indices(grey.shape).reshape(2, -1)], axis=1)
    light = terms @ np.linalg.lstsq(terms, grey.ravel(), rcond=None)[0]         # may be uneven: a plane
    ink = grey - light.reshape(grey.shape)              # ink is rare but far from 0: its sign wins in Σ ink³
    ink = np.maximum(ink * np.sign(np.sum(ink ** 3)), 0)            # dark on light, or light on dark
    if ink.max() < 32:
        raise UserError(f"{file} is blank: its greys range from {grey.min():.0f} to {grey.max():.0f}")
    ink[ink < 0.4 * ink.max()] = 0                      # no shadows, no paper grain
    rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
    ink = ink[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]
    longest = 20 if data.name in ("mnist", "digits") else 28        # other pictures fill their frame
    h, w = (max(1, round(longest / max(ink.shape) * side)) for side in ink.shape)
    ink = np.asarray(Image.fromarray(ink.astype(np.float32)).resize((w, h), Image.Resampling.BILINEAR))
    picture = np.zeros((H, W), np.uint8)
    y = np.arange(h) @ ink.sum(axis=1) / ink.sum()      # (56)  ȳ = Σ y ink / Σ ink
    x = np.arange(w) @ ink.sum(axis=0) / ink.sum()
    top, left = np.clip(round(14 - y), 0, 28 - h), np.clip(round(14 - x), 0, 28 - w)
    picture[top:top + h, left:left + w] = 255 * ink / ink.max()
    return picture

def _folder(path, rng, size=64):
    """Grey pictures (n, size, size) uint8 from a folder with a sub-folder of JPEG or PNG files per class."""
    names = sorted(folder.name for folder in path.glob("[!.]*") if folder.is_dir())
    files = {name: [file for file in sorted((path / name).glob("[!.]*"))
                    if file.suffix.lower() in (".jpg", ".jpeg", ".png")] for name in names}
    few = [f"{name} ({len(files[name])})" for name in names if len(files[name]) < 2]
    if len(names) < 2 or few:
        raise UserError(f"{path} needs at least 2 sub-folders, one per class, each with at least 2 JPEG or "
                        f"PNG files; it has {len(names)}, with too few in: {', '.join(few[:5]) or 'none'}")
    X = np.stack([np.asarray(read_picture(file).resize((size, size))) for file in sum(files.values(), [])])
    turned = X.mean() > 127                             # ink on paper: make 0 mean that nothing is there
    X = 255 - X if turned else X
    y = np.repeat(np.arange(len(names)), [len(files[name]) for name in names])
    return split(path.resolve().name, X, y, tuple(names), rng)._replace(turned=turned)

# --- Texts and time series -------------------------------------------------------------------------------

_SHAKESPEARE = ("shakespeare", "input.txt", "6fb458f1232090904fb40fe944165e91",
                ["https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/"])

# Airline passengers per month, in thousands, 1949 to 1960, three digits each (Box & Jenkins 1970).
_AIRLINE = """
112118132129121135148148136119104118115126141135125149170170158133114140145150178163172178199199184162146166
171180193181183218230242209191172194196196236235229243264272237211180201204188235227234264302293259229203229
242233267269270315364347312274237278284277317313318374413405355306271306315301356348355422465467404347305336
340318362348363435491505404359310337360342406396420472548559463407362405417391419461472535622606508461390432
"""

def _or_instead(load, name, other):
    """What load(name) gives or, if that cannot be downloaded, load(other)."""
    try:
        return load(name)
    except Unavailable as error:
        print(f"{error}; using {other} instead", flush=True)
        return load(other)

def _characters(path):
    """All characters of a text file in UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a UTF-8 text file") from None
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"no data set or file is called {path}; the data sets are: shakespeare, "
                        "python-docs, airline, sine, adding") from None

def load_text(name=None):
    """The name and the characters of shakespeare, of python-docs (the reference that comes with Python), or
    of a UTF-8 file; without a name, shakespeare, or python-docs if that cannot be downloaded. Raises
    UserError."""
    if name is None:
        return _or_instead(load_text, "shakespeare", "python-docs")
    if name == "python-docs":
        from pydoc_data.topics import topics
        return name, "\n".join(topics[key] for key in sorted(topics))
    return Path(name).stem, _characters(find(*_SHAKESPEARE) if name == "shakespeare" else Path(name))

def load_series(name, column=None, seed=0):
    """The name, the values, and the steps per season of airline, of sine (with noise), or of a column (by
    default the last) of a CSV file whose first line has the column names. Raises UserError."""
    if name == "airline":
        return name, _numbers(_AIRLINE, 3), 12
    if name == "sine":
        noise = np.random.default_rng([seed, 1]).standard_normal(300)
        return name, np.sin(np.arange(300) * 2 * np.pi / 20) + 0.1 * noise, 20
    try:
        text = _characters(Path(name)).rstrip(" ,;\t\n")               # no empty lines at the end
        mark = max(",;\t", key=text.split("\n")[0].count)
        lines = [line.rstrip(" ,;\t") for line in text.split("\n")]             # nor empty columns
        reader = csv.reader(lines, delimiter=mark, skipinitialspace=True)
        (header, _), *rows = [([cell.strip() for cell in row], reader.line_num) for row in reader]
    except csv.Error as error:
        raise UserError(f"{name} is not a CSV file: {error}") from None
    if not header or column and column not in header:
        raise UserError(f"{name} has no column {column or 'at all'}; it has: {', '.join(header) or 'none'}")

    def value(cell):
        try:
            return float(cell if mark == "," else cell.replace(",", "."))
        except ValueError:
            return math.nan

    k = header.index(column) if column else len(header) - 1
    if not column and math.isfinite(value(header[k])):
        raise UserError(f"{name} needs names in its first line, not {lines[0]}; or choose a --column")
    values = [value(row[k]) if k < len(row) <= len(header) else math.nan for row, _ in rows]
    for number, (_, line) in zip(values, rows):
        if not math.isfinite(number):                   # also 1,234 without quotes: a cell too many
            raise UserError(f"{name}, line {line}: no number in {header[k]}: {lines[line - 1]}")
    return Path(name).stem, np.array(values), 12

# --- Sequences: tasks for a recurrent net ---------------------------------------------------------------

# A task has D inputs, K outputs, `classes` (none: it asks for numbers), and windows(training), which yields
# inputs X (T, D, N), targets Y (..., T'N) for the last T' steps, and T' (0 means T); in training, exactly
# `steps` times, as (46) assumes. `carry`: each window continues where the previous one ended. report(net, L)
# says what a net of the held-out loss L has reached; show(ax, run, fresh), if there is one, draws what the
# net of a run has learnt, beside a fresh one.

class Text:
    """Predict the next character from all before it; the last tenth of the text is held out. Up to N readers
    start at different places and read windows of T characters; the state is carried from each to the next."""
    carry = True

    def __init__(self, name, text, N, T):
        cut = len(text) * 9 // 10
        if len(text) - cut < T + 1:
            raise UserError(f"{name} has {len(text):,} characters, too few for a --window of {T}")
        self.name, self.N, self.T, self.classes = name, N, T, sorted(set(text))
        self.D = self.K = len(self.classes)
        self.amount = f"{cut:,} characters to train on, {len(text) - cut:,} to test on"
        self.text = text[:cut], text[cut:]
        self.ids = [self.encode(part) for part in self.text]
        self.steps = math.ceil((cut // self.readers(self.ids[0]) - 1) / T)

    def encode(self, text):
        """The text as character numbers (T,)."""
        numbers = {character: k for k, character in enumerate(self.classes)}
        strange = sorted(set(text) - set(numbers))
        if strange:
            raise UserError(f"the character {strange[0]!r} never occurs in {self.name}")
        return np.array([numbers[character] for character in text])

    def one_hot(self, ids):
        """Character numbers (T, N) as one-hot columns (T, D, N): a single 1, in the row of that number."""
        return np.eye(self.D, dtype=np.float32)[:, ids].transpose(1, 0, 2)

    def readers(self, ids):
        """How many read these characters: N, or as many as get 16 windows each, as each starts afresh."""
        return max(1, min(self.N, len(ids) // (16 * self.T)))

    def windows(self, training):
        ids = self.ids[0 if training else 1]
        N = self.readers(ids)
        streams = ids[:len(ids) // N * N].reshape(N, -1).T
        for t in range(0, len(streams) - 1, self.T):
            window = streams[t:t + self.T + 1]
            yield self.one_hot(window[:-1]), window[1:].ravel(), 0

    def report(self, net, L):
        return f"{L:.2f} nats per character ({L / math.log(2):.2f} bits, perplexity {np.exp(L):.1f})", {}

    def telling(self, net):
        """For five things that a reader knows or expects, find the unit that correlates best with each over
        the first 5,000 held-out characters. Return {name: (the correlation's size, the unit's state over 90
        of them (90,), turned so that high means yes)}, if it ever occurs; and these 90, near a blank line."""
        text, known = self.text[1][:5001], []
        net.forward(self.one_hot(self.encode(text[:-1])[:, None]))
        h = net.H[:, :, 0]
        for i, following in enumerate(text[1:], 1):
            start = text.rfind("\n", 0, i) + 1          # of the line
            known.append((text.endswith("\n\n", 0, start), i - start,
                          following.isupper(), following in " \n", following in "aeiouAEIOU"))
        x, y = ((a - a.mean(axis=0)) / (a.std(axis=0) + 1e-9) for a in (np.array(known, float), h))
        r = x.T @ y / len(known)
        names = "after a blank line", "place in line", "capital next", "space next", "vowel next"
        start = max(0, min(text.rfind("\n\n") - 30, len(known) - 90))
        rows, shown = zip(names, r, np.abs(r).argmax(axis=1)), slice(start, min(start + 90, len(known)))
        found = {name: (abs(row[k]), np.sign(row[k]) * h[shown, k]) for name, row, k in rows if row[k]}
        return found, text[shown]

    def show(self, ax, run, fresh):
        (before, _), (found, passage) = self.telling(fresh), self.telling(run["net"])
        states = [h for _, h in found.values()] or np.zeros((1, len(passage)))
        image = ax.imshow(states, cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
        ax.set_yticks(range(len(found)), [f"{what}: {before[what][0]:.2f} → {r:.2f}"
                                          for what, (r, _) in found.items()])
        ax.set_xticks(range(len(passage)), list(passage.replace("\n", "¶")), family="monospace")
        ax.set_title(f"the {run['cell'].upper()} unit that follows each best, over a held-out passage "
                     "(the best unit's correlation before training → now)")
        ax.figure.colorbar(image, ax=ax, label="h, blue for yes", pad=0.01)

class Adding:
    """Add up two of T numbers in [0, 1]; a second input marks them, one in each half (after Hochreiter &
    Schmidhuber 1997). Without memory, one can hardly do better than always answer 1; the error is then the
    variance of the sum, 1/6."""
    carry, classes, D, K, name, steps = False, (), 2, 1, "adding", 100

    def __init__(self, N, T, rng):
        self.N, self.T, self.rng = N, T, rng
        self.amount = f"{self.steps * N:,} sequences to train on, redrawn each epoch, {20 * N:,} to test on"
        self.held_out = [self.draw() for _ in range(20)]

    def draw(self):
        X = np.zeros((self.T, 2, self.N), np.float32)
        X[:, 0] = self.rng.random((self.T, self.N))
        for start, stop in (0, self.T // 2), (self.T // 2, self.T):
            X[self.rng.integers(start, stop, self.N), 1, np.arange(self.N)] = 1
        return X, (X[:, :1] * X[:, 1:]).sum(axis=0), 1

    def windows(self, training):
        return (self.draw() for _ in range(self.steps)) if training else self.held_out

    def report(self, net, L):
        return f"mean squared error {L:.4f} (0.1667 without memory)", {}

class Series:
    """Forecast a series whose last third is held out. The net sees how the growth over one season (of the
    logarithm, if all values are positive) changes from step to step, and predicts the next change. It gets
    these and the same with the sign reversed: treating up and down alike keeps a free run from drifting."""
    carry, classes, D, K, steps = False, (), 1, 1, 1

    def __init__(self, name, values, season):
        self.name, self.values, self.season = name, np.array(values, float), season
        self.cut = len(values) * 2 // 3
        if self.cut < 2 * season + 4:
            raise UserError(f"{name} has {len(values)} values: too few for a --season of {season}")
        positive = self.values.min() > 0
        self.rule = f"last season {'times' if positive else 'plus'} growth"
        self.unbend, self.level = (np.exp, np.log(self.values)) if positive else (np.asarray, self.values)
        growth = self.level[season:] - self.level[:-season]  # (91)  gₜ = ln yₜ − ln yₜ₋ₛ
        change = np.diff(growth)                        # (92)  xₜ = gₜ − gₜ₋₁
        self.n_test = len(values) - self.cut
        self.amount = f"{self.cut:,} values to train on, {self.n_test:,} to test on, seasons of {season}"
        self.scale = change[:-self.n_test].std() or 1.0
        self.X = (np.stack([change, -change], axis=-1)[:, None] / self.scale).astype(np.float32)

    def windows(self, training):
        X, last = (self.X[:-self.n_test], 0) if training else (self.X, self.n_test)
        yield X[:-1], X[1:][-last:].reshape(1, -1), last

    def forecasts(self, net):
        """Held-out values by name: the truth; the net's forecasts, one step ahead and from its own forecasts
        alone; and those of four simple rules, of which only `constant growth` sees no held-out value."""
        def odd(Z):
            z, mirrored = Z.reshape(-1, 2).T
            return (z - mirrored) / 2                   # (93)  ẑ(x) = ½ (z(x) − z(−x))

        s, cut, level = self.season, self.cut, self.level
        seasonal, last = level[cut - s:-s], level[cut - 1:-1]
        rule = seasonal + last - level[cut - s - 1:-s - 1]
        changes = odd(net.forward(self.X[:-1], last=self.n_test)[0])
        own, x, state = [np.array([y, y]) for y in level[:cut]], self.X[:-self.n_test], 0
        while len(own) < len(level):                    # free run of the net, and of the rule, whose ẑ is 0
            Z, state = net.forward(x, state, last=1)
            z = float(odd(Z)[0])
            growth = own[-1] - own[-1 - s] + [self.scale * z, 0]
            own.append(own[-s] + growth)                # (94)  ln ŷₜ = ln yₜ₋ₛ + gₜ₋₁ + ẑ
            x = np.array([[[z, -z]]], np.float32)
        free, constant = np.transpose(own[cut:])
        levels = {"truth": level[cut:], "last value": last, "last season's value": seasonal,
                  self.rule: rule, "constant growth": constant, "net, free run": free,
                  "net, one step": rule + self.scale * changes}
        return {name: self.unbend(values) for name, values in levels.items()}

    def report(self, net, L):
        """Print the RMSE of each forecast; say which simple rules the net does not beat (nan: all)."""
        forecasts = self.forecasts(net)
        truth = forecasts.pop("truth")
        rmse = {name: math.sqrt(np.mean((values - truth) ** 2)) for name, values in forecasts.items()}
        for name, error in rmse.items():
            print(f"    {name:24} RMSE {error:.4g}")
        free = "running free (of the rules, only constant growth sees as little)"
        for how, name in ("one step ahead", "net, one step"), (free, "net, free run"):
            better = ", ".join(rule for rule in rmse if "net" not in rule and not rmse[name] < rmse[rule])
            print(f"{how} the net {'does not beat ' + better if better else 'beats every simple rule'}")
        return f"RMSE {rmse['net, one step']:.4g}", {"rmse": rmse}

    def show(self, ax, run, fresh):
        shown = np.arange(self.cut - self.season, min(len(self.values), self.cut + 10 * self.season))
        truth = self.values[shown]
        ax.plot(shown, truth, "k-", linewidth=2, label="truth")
        lines, forecasts = ("k:", "C3-.", "C2--", "C2:", "C1-", "C0-"), self.forecasts(run["net"])
        for line, (rule, error) in zip(lines, run["rmse"].items()):
            ax.plot(shown[self.season:], forecasts[rule][:len(shown) - self.season], line,
                    label=f"{rule}: RMSE {error:.4g}")              # of the whole third
        margin = np.ptp(truth) / 2 or 1                 # not more for a free run that goes astray
        title = f"{self.name}: the held-out third (at most ten seasons), and the {run['cell'].upper()}"
        ax.set(title=title, xlabel="step", ylabel="value", ylim=(truth.min() - margin, truth.max() + margin))
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))

def choose_task(args, usual, rng):
    """The task that --dataset names. Settings missing from args get their `usual` values for this kind."""
    name = args.dataset or ""
    if name == "adding":
        fill_in(args, usual["adding"])
        return Adding(args.batch_size, args.window, rng)
    if name in ("airline", "sine") or name.lower().endswith((".csv", ".tsv")):
        fill_in(args, usual["series"])
        name, values, season = load_series(name, args.column, args.seed)
        return Series(name, values, args.season or season)
    name, text = load_text(args.dataset)
    fill_in(args, usual["text"], len(text) // (args.window or usual["text"]["window"]), steps=300)
    task = Text(name, text, args.batch_size, args.window)
    args.prime = args.prime or ("\n" if "\n" in task.classes else task.classes[0])
    task.encode(args.prime)                             # complain about unknown characters now, not later
    return task

# --- What the scripts call ------------------------------------------------------------------------------

_NAMES = ("blobs", "xor", "moons", "circles", "spirals", "sine", "iris", "digits", *_FILES)

def load(name=None, seed=0):
    """The data set called `name`, or the pictures in the folder at that path, as a `Data`; without a name,
    mnist, or digits if that cannot be downloaded. `seed` determines generated points, and the train/test
    split of sets without a standard one. Raises UserError."""
    if name is None:
        return _or_instead(load, "mnist", "digits")
    rng = np.random.default_rng([seed, 1])          # not the script's own stream, default_rng(seed)
    if name == "digits":
        X, y = _digits(np.random.default_rng(0), 12_000)
        return Data(name, X[:10_000], y[:10_000], X[10_000:], y[10_000:], _TEN)
    if name == "iris":
        X, classes = _numbers(_IRIS, 2).reshape(150, 4) / 10, ("setosa", "versicolor", "virginica")
        return split(name, X, np.repeat([0, 1, 2], 50), classes, rng)
    if name in _FILES:
        return _downloaded(name)
    if name in _NAMES:
        return _generated(name, rng)
    if Path(name).is_dir():
        return _folder(Path(name), rng)
    raise UserError(f"no data set or picture folder is called {name}; the data sets are: {', '.join(_NAMES)}")

def as_pictures(data, volumes=True):
    """Pictures as one-channel volumes (n, 1, H, W), or as rows (n, H W); UserError if the data have none."""
    if data.X_train.dtype != np.uint8:
        raise UserError(f"{data.name} has no pictures to learn from: try mlp.py --dataset {data.name}")
    shape = (-1, 1, *data.X_train.shape[1:]) if volumes else (-1, data.X_train[0].size)
    return data._replace(X_train=data.X_train.reshape(shape), X_test=data.X_test.reshape(shape))

def as_rows(data):
    """Features in rows (n, D), standardised (except pixels: batch_last scales those); y (n,), or (n, 1)
    for a net with one output: for two classes, and for regression."""
    X_train, X_test = (X.reshape(len(X), -1) for X in (data.X_train, data.X_test))
    if X_train.dtype != np.uint8:
        mean, deviation = X_train.mean(axis=0), X_train.std(axis=0)
        deviation[deviation == 0] = 1                   # a feature that is always the same
        X_train, X_test = (X_train - mean) / deviation, (X_test - mean) / deviation
    column = (-1, 1) if len(data.classes) <= 2 else (-1,)
    return data._replace(X_train=X_train, X_test=X_test, y_train=data.y_train.reshape(column),
                         y_test=data.y_test.reshape(column))

def batch_last(a):
    """Examples as rows (N, ...) in the form that the nets expect, (..., N): uint8 images scaled to [0, 1],
    floats as float32, other integers as they are."""
    a = np.ascontiguousarray(np.moveaxis(a, 0, -1))
    if a.dtype == np.uint8 and a.ndim > 1:
        return a * np.float32(1 / 255)
    return a.astype(np.float32) if a.dtype.kind == "f" else a

def minibatches(X, y, batch_size, rng, label=""):
    """Yield all of X and y, (N, ...) each, shuffled, in minibatches (..., N); the last may be smaller. With a
    label, a terminal shows a progress bar with the time left."""
    order = rng.permutation(len(X))
    for rows in progress(np.split(order, range(batch_size, len(X), batch_size)), label):
        yield batch_last(X.take(rows, axis=0)), batch_last(y.take(rows, axis=0))

def finite(L, step, lr):
    """The loss L if it is a finite number; otherwise a UserError that says what helps."""
    if not math.isfinite(L):
        bar()
        raise UserError(f"the loss is {L} in step {step}: try a lower --lr than {lr:g}")
    return L + 0.0                                      # -0.0 would look odd

SCORES = "train loss {:.4f}, accuracy {:.2%}   test loss {:.4f}, accuracy {:.2%}"

def in_words(accuracy, n):
    """The accuracy on n examples, worded as in all scripts."""
    return f"accuracy {100 * accuracy:.2f} % ({round((1 - accuracy) * n):,} of {n:,} wrong)"

def watch(training, epochs, words, say=print, keep=lambda: None, unit="epoch"):
    """Run `training`, which yields a row of numbers per epoch, and report it in `words` now and then (every
    time if `unit` is not epoch). Returns the rows, what `keep` returned after epochs 0, 1, 2, 4, ... and the
    last, and how many seconds it took. Ctrl-C ends the training, not the program."""
    rows, kept, epoch, start = [], {0: keep()}, 0, time.time()
    try:
        for epoch in range(1, epochs + 1):
            rows.append(next(training))
            if epoch & (epoch - 1) == 0:                # a power of 2
                kept[epoch] = keep()
            if unit != "epoch" or (epochs - epoch) % math.ceil(epochs / 20) == 0:
                say(f"{unit} {epoch:3}/{epochs}   {words.format(*rows[-1]).replace('%', ' %')}")
    except KeyboardInterrupt:
        bar()
        print(f"interrupted in {unit} {epoch}: continuing with what has been learnt so far")
    kept[epoch] = keep()
    return rows, kept, time.time() - start

def predict(net, X):
    """The outputs (K, n) of the net for all examples X (n, ...), a thousand at a time."""
    parts = [net.forward(batch_last(X[i:i + 1000])) for i in range(0, len(X), 1000)]
    return np.concatenate(parts, axis=-1)

def probabilities(net, X):
    """The class probabilities (K, n) for all examples X (n, ...): the softmax of the net's logits."""
    Z = predict(net, X)
    Z = Z if len(Z) > 1 else np.concatenate([0 * Z, Z])     # one logit z is equivalent to two, 0 and z
    E = np.exp(Z - Z.max(axis=0))                           # the maximum cancels: no overflow
    return E / E.sum(axis=0)

def accuracy(Z, y):
    """The share of examples whose largest logit in Z (K, N) is that of the right class, y (N,)."""
    return float(np.mean(Z.argmax(axis=0) == y))

def follow(net, data, n, **titles):
    """Test picture n, and what those layers make of it whose type is among the `titles`: for each, what
    plot_sheet needs."""
    X = batch_last(data.X_test[[n]])
    sheets = [(data.X_test[n], f"one picture\n({caption(data.classes[data.y_test[n]])})")]
    for layer in [layer for layer in net.layers if not layer.only_training]:
        X, title = layer.forward(X), titles.get(type(layer).__name__)
        if title and X.ndim == 4:
            sheets.append((X[..., 0], f"{title}\n{' x '.join(map(str, X.shape[:3]))}", True))
    return sheets

def progress(steps, label, total=0):
    """Yield the steps, `total` of them; with a label, a terminal shows a bar with the time left."""
    total, start, drawn = total or len(steps), time.time(), time.time()
    for done, step in enumerate(steps, 1):
        yield step
        if label and time.time() > drawn + 0.1:         # often enough for the eye
            drawn = time.time()
            bar(label, done / max(done, total), drawn - start)
    bar()

def bar(label="", share=0, seconds=0):
    """Draw a progress bar over the current line of a terminal; without a label, erase it."""
    if not getattr(sys.stdout, "isatty", bool)() or "idlelib" in sys.modules:   # IDLE cannot go back
        return
    width = shutil.get_terminal_size().columns - 1
    room = max(width - len(label) - 15, 0)
    left = f"[{'#' * round(room * share):.<{room}}] {seconds / share - seconds:4.0f} s left" if share else ""
    print(f"\r{f'{label} {left}'[:width]:{width}}\r", end="", flush=True)

# --- What all scripts have in common: options, weights, figures, errors ---------------------------------

def number(kind, low, high=1e12):
    """The type of an option: an int or a float with low <= value < high."""
    def parse(text):
        value = kind(text)
        if not low <= value < high:
            raise argparse.ArgumentTypeError(f"{text} is not in the range {low:g} <= value < {high:g}")
        return value
    parse.__name__ = kind.__name__                      # argparse names it if the text is not a number
    return parse

def _written(*endings):
    """The type of an option for a file to be written: reports problems before the training, not after it."""
    def parse(path):
        if Path(path).suffix not in endings:
            raise argparse.ArgumentTypeError(f"{path} should end in {' or '.join(endings)}")
        if Path(path).is_dir():
            raise argparse.ArgumentTypeError(f"{path} is a folder")
        try:
            tempfile.TemporaryFile(dir=Path(path).parent).close()           # on Windows only trying tells
            if Path(path).exists():
                open(path, "ab").close()
        except OSError as error:
            raise argparse.ArgumentTypeError(f"{path} cannot be written: {error.strerror}") from None
        return path
    return parse

def parser(about, default, others, optimizers=(), own="a folder with one sub-folder of pictures per class",
           **usual):
    """An argument parser with the options that the scripts share; errors print one line, with exit code 2.
    `usual`: for each kind of task the values that fill_in will use."""
    lines = [f"usual values for {kind}:\n  " + " ".join(f"--{name} {value}" for name, value in values.items())
             for kind, values in usual.items()] + ["(few data: mostly more epochs)"]
    parser = argparse.ArgumentParser(
        Path(sys.argv[0]).name, description=textwrap.fill((about or "").split("\n")[0]),
        epilog=re.sub(r" \[\]|[][,]", "", "\n".join(lines).replace("_", "-")),
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.error = lambda message: parser.exit(2, f"{parser.prog}: {message}\n")
    option = parser.add_argument
    option("--dataset", metavar="NAME", help=f"{default} (default), {others}, or {own}")
    option("--epochs", type=number(int, 0), metavar="N", help="passes over the training set (0: only test)")
    option("--batch-size", type=number(int, 1), metavar="N", help="examples per step: fewer are noisier")
    option("--lr", type=number(float, 1e-9), metavar="RATE", help="learning rate: low is slow, high may fail")
    if optimizers:
        option("--optimizer", choices=optimizers, default="adam", help="how gradients become steps")
        option("--weight-decay", type=number(float, 0), metavar="L", help="pulls all weights towards 0")
    option("--seed", type=number(int, 0), default=0, metavar="N", help="the same seed gives the same numbers")
    option("--save", type=_written(".npz"), metavar="FILE.npz", help="write the weights, named as in PyTorch")
    option("--load", metavar="FILE.npz", help="start from these weights: same layers, same data")
    option("--figure", type=_written(".png", ".pdf", ".svg"), metavar="FILE.png", help="where to save it")
    option("--no-show", action="store_true", help="save the figure, but open no window")
    return parser

def fill_in(args, usual, examples=0, steps=600):
    """Set the options that were not given to their usual values; for few examples, epochs for `steps`."""
    given = args.epochs is not None
    vars(args).update({name: value for name, value in usual.items() if getattr(args, name) is None})
    if examples and not given:
        args.epochs = max(args.epochs, math.ceil(steps / math.ceil(examples / args.batch_size)))

def summary(what, data, net, more={}):
    """Print what learns from how many examples, and the table of the net's layers. `more` has further columns
    by name: each a function that counts something, given a layer and its output Z (..., n)."""
    print(f"{what}: {len(data.X_train):,} examples to train on, {len(data.X_test):,} to test on, "
          f"{net.theta.size:,} parameters")
    X, rows = batch_last(data.X_train[:1]), []
    for layer in net.layers:
        X = layer.forward(X)
        size = " x ".join(map(str, X.shape[:-1]))
        rows.append((layer, size, *(count(layer, X) for count in more.values())))
    table("output per example", rows, *more)

def table(output, rows, *more):
    """Print the table of a net's layers. A row holds a layer, the size of its output, which the title
    `output` explains, and a number for each of the columns `more`."""
    columns, sums, width = ("parameters", *more), 0, len(output)
    print(f"layer         {output}", *columns, sep="   ")
    numbers = "".join(f"   {{:{len(name)},}}" for name in columns)
    for layer, size, *counts in rows:
        counts = np.array([sum(getattr(layer, name).size for name in layer.params), *counts])
        sums = sums + counts
        print(f"{type(layer).__name__:14}{size:>{width}}{numbers.format(*counts)}")
    print(f"{'total':{14 + width}}{numbers.format(*sums)}", flush=True)

def one_vector(layers):
    """Put the parameters of all `layers`, a dict by name, into one vector theta, and their gradients into
    another: layer.W becomes a view of theta, layer.dW of dtheta. Returns both, and the parameters (as views)
    with the names and shapes they have in PyTorch: 0.weight (K, D), 0.bias (K,), ... A deep copy of a net, or
    another net of its layers, breaks this; to copy a net, fill the theta of a new one."""
    if len(set(layers.values())) < len(layers):
        raise ValueError("each place in a net needs a layer of its own")
    owners = [(layer, ours, f"{place}.{theirs}") for place, layer in layers.items()
              for ours, theirs in layer.params.items()]
    arrays = [getattr(layer, ours) for layer, ours, _ in owners]
    theta = np.concatenate([np.zeros(0, np.float32), *(W.ravel() for W in arrays)])
    dtheta, weights, ends = np.zeros_like(theta), {}, np.cumsum([W.size for W in arrays])
    for (layer, ours, name), old, W, dW in zip(owners, arrays, np.split(theta, ends), np.split(dtheta, ends)):
        setattr(layer, ours, W.reshape(old.shape))
        setattr(layer, "d" + ours, dW.reshape(old.shape))
        weights[name] = W if "bias" in name else W.reshape(old.shape)
    return theta, dtheta, weights

class Halves:
    """A recurrent net that halves its minibatches, if they are large, between two threads: `net` and a `copy`
    of it. For NumPy's element-wise functions use one processor only. BLAS must then keep to one thread (set
    OMP_NUM_THREADS=1 before NumPy starts; else nothing is halved), or they get in each other's way."""
    def __init__(self, net, copy):
        self.net, self.copy, self.dtheta = net, copy, net.dtheta
        self.pool = ThreadPoolExecutor(2, initializer=lambda: np.seterr(all="ignore"))

    def each(self, work, *parts):
        """What `work` returns for each net and its part, each in its thread."""
        tasks = [self.pool.submit(work, *arguments) for arguments in zip(self.nets, *parts)]
        try:
            return [task.result() for task in tasks]
        finally:
            wait(tasks)                                 # after Ctrl-C, too: the nets are needed again

    def forward(self, X, state=0, last=0):
        threads = os.environ.get("OPENBLAS_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS")       # of BLAS
        halve = threads == "1" and X.shape[-1] >= 100
        self.nets = [self.net, self.copy] if halve else [self.net]
        self.copy.theta[:] = self.net.theta
        Xs = np.array_split(X, len(self.nets), axis=-1)
        states = zip(*(np.array_split(h, len(self.nets), axis=-1) for h in state)) if state else [0] * len(Xs)
        Zs, states = zip(*self.each(lambda net, X, state: net.forward(X, state, last), Xs, states))
        Z = np.concatenate([Z.reshape(len(Z), -1, X.shape[-1]) for X, Z in zip(Xs, Zs)], axis=-1)
        self.shape = Z.shape                            # (K, T, N), for backward
        return Z.reshape(len(Z), -1), tuple(np.concatenate(h, axis=-1) for h in zip(*states))

    def backward(self, dZ):
        dZs = np.array_split(dZ.reshape(self.shape), len(self.nets), axis=-1)
        self.each(lambda net, dZ: net.backward(dZ.reshape(len(dZ), -1)), dZs)
        for net in self.nets[1:]:
            self.dtheta += net.dtheta

def read_weights(path, weights):
    """Fill the arrays of `weights`, by name, from an .npz file, if there is a path; UserError if names or
    shapes do not match."""
    if not path:
        return
    try:
        with np.load(path) as file:
            arrays = {name: np.asarray_chkfinite(array, float) for name, array in file.items()}
    except Exception as error:                          # np.load raises half a dozen kinds
        reason = getattr(error, "strerror", None) or "it is not an .npz file of finite numbers"
        raise UserError(f"cannot read weights from {path}: {reason}") from error
    for name in {**weights, **arrays}:
        here, there = (a[name].shape if name in a else "missing" for a in (weights, arrays))
        if here != there:
            raise UserError(f"{path} has the weights of another net: {name} is {there} there, {here} here; "
                            "give the options that it was trained with")
    for name, array in arrays.items():
        weights[name][...] = array

def write_weights(path, weights):
    """Save the arrays of `weights`, by name, in an .npz file, if there is a path."""
    if path:
        np.savez(path, **weights)

COLORS = np.array([[0, 114, 178], [230, 159, 0], [0, 158, 115], [204, 121, 167]]) / 255    # colour-blind safe

def figure(layout, width, height):
    """A figure, its size in inches, in the style of all scripts; and its panels by the layout's letters."""
    import matplotlib.pyplot as plt                     # here, so that the first output appears at once
    plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
                         "axes.prop_cycle": plt.cycler(color=COLORS), "image.interpolation": "nearest",
                         "axes.titlesize": 11})
    size = dict(figsize=(width, height), layout="constrained")
    try:
        return plt.subplot_mosaic(layout, **size)
    except Exception:                                   # a screen, but windows cannot be opened on it
        plt.switch_backend("agg")
        return plt.subplot_mosaic(layout, **size)

def finish(fig, path, show):
    """Save the figure; show it if there is a screen, or a notebook."""
    import matplotlib.pyplot as plt
    warnings.filterwarnings("ignore", "Glyph|.*non-(interactive|GUI)")      # a letter or a screen is missing
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        fig.savefig(path, dpi=100)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; choose another --figure") from None
    print(f"figure: {path}")
    if show:
        plt.show()
    plt.close(fig)

def caption(name, most=14):
    """A class or file name as a figure can show it: its start and end, no broken letters, no `$` formulas."""
    short = name if len(name) <= most else f"{name[:most // 2]}…{name[most // 2 + 1 - most:]}"
    return short.encode(errors="replace").decode().replace("$", "\\$")

def plot_sheet(ax, images, title="", signed=False, columns=0):
    """Draw images (n, h, w), one pixel apart, in so many columns (default: a square), from black to white,
    or `signed` numbers from red to blue."""
    n, h, w = images.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = max(1, math.ceil(n / columns))
    sheet = np.pad(images.astype(float), [(0, rows * columns - n), (0, 1), (0, 1)], constant_values=np.nan)
    sheet = sheet.reshape(rows, columns, h + 1, w + 1).swapaxes(1, 2).reshape(rows * (h + 1), -1)
    most = np.quantile(np.abs(images), 0.995) or 1 if signed else 255 if images.dtype == np.uint8 else 1
    colors, least = ("RdBu", -most) if signed else ("gray", 0)
    drawn = "antialiased" if sheet.shape[1] > 600 else "nearest"        # or lines between pictures vanish
    ax.imshow(sheet, cmap=colors, vmin=least, vmax=most, interpolation=drawn)
    ax.set(title=title, xticks=[], yticks=[])
    ax.spines[:].set_visible(False)

def epochs_axis(ax, epochs):
    """Label the x-axis of curves over so many epochs."""
    ax.set_xlabel("epoch")
    if epochs < 30:
        ax.locator_params(axis="x", integer=True, min_n_ticks=min(2, epochs or 1))
    else:                                               # most happens early
        ax.set_xscale("log")

def dots(curve):
    """The marker of a curve: if its points are few they are shown, as a single one makes no line."""
    return "." if len(curve) < 30 else ""

def plot_losses(ax, history, color, name):
    """Curves of the loss in training and in the test, from rows (train loss, test loss)."""
    for line, part, L in zip(("--", "-"), ("train", "test"), np.reshape(history, (-1, 2)).T):
        ax.plot(range(1, len(L) + 1), L, color + dots(L) + line, label=f"{name}, {part}")

def plot_curves(loss, score, history, name, part="test"):
    """Training and test curves in two panels, from rows (train loss, train score, test loss, test score)."""
    rows = np.reshape(history, (-1, 4))
    for ax, column, title in (loss, 0, "loss"), (score, 1, name):
        ax.plot(range(1, len(rows) + 1), rows[:, column::2], label=["train", part], marker=dots(rows))
        ax.set_title(title)
        epochs_axis(ax, len(history))
        ax.legend()

def plot_plane(ax, answer, X, y, title, classes=()):
    """Points X (n, 2) in the colours of their classes y, over a plane where the probabilities (K, m) that
    `answer` gives for points (m, 2) mix these colours; a legend names the `classes`, if given. Returns the
    plane's coordinates, to draw on it."""
    low, high = X.min(axis=0) - 0.3, X.max(axis=0) + 0.3
    x1, x2 = np.meshgrid(*np.linspace(low, high, 200).T)
    P = answer(np.stack([x1.ravel(), x2.ravel()], axis=1))
    ax.imshow((P.T @ COLORS[:len(P)]).reshape(200, 200, 3), extent=(low[0], high[0], low[1], high[1]),
              origin="lower", alpha=0.5)
    ax.scatter(*X.T, c=COLORS[y], s=14, edgecolors="white", linewidths=0.4)
    if classes:
        marks = [ax.scatter([], [], color=color, edgecolors="white") for color in COLORS[:len(classes)]]
        ax.legend(marks, classes, loc="upper left")
    ax.set(title=title, xlabel="x1, standardised", ylabel="x2, standardised")
    return x1, x2

def plot_confusion(ax, y, said, classes):
    """The confusion matrix: true classes in rows, the net's answers in columns; the colour shows mistakes."""
    K = len(classes)
    counts = np.bincount(y * K + said, minlength=K * K).reshape(K, K)
    mistakes = counts * (1 - np.eye(K))
    ax.imshow(mistakes, cmap="Oranges")
    for (row, column), count in np.ndenumerate(counts):
        color = "white" if mistakes[row, column] > 0.65 * mistakes.max() else "black"
        ax.text(column, row, count or "", ha="center", va="center", fontsize=8, color=color)
    ax.set(title="test examples (mistakes coloured)", xlabel="predicted", ylabel="true")
    names, size = [caption(name, 10) for name in classes], min(10, 180 / K)
    ax.set_xticks(range(K), names, size=size, rotation=90 if max(map(len, names)) > 2 else 0)
    ax.set_yticks(range(K), names, size=size)

def plot_probabilities(ax, p, right, classes):
    """The probabilities p (K,) of the classes as bars; that of the class number `right` stands out."""
    ax.barh(range(len(p)), p, alpha=0.5)[right].set_color("C1")
    ax.set_yticks(range(len(p)), [caption(name) for name in classes], ha="left", size=min(10, 200 / len(p)))
    ax.tick_params(axis="y", length=0, pad=-4)          # inside: long names would squeeze all panels
    ax.invert_yaxis()
    ax.set(title="probability", xlim=(0, 1))

def plot_mistakes(ax, images, y, P, classes):
    """Up to twelve misread images (n, h, w): their true class y (n,) is least probable by P (K, n)."""
    said, yes_or_no = P.argmax(axis=0), np.isin(P, (0, 1)).all()
    worst = np.argsort(P[y, np.arange(len(y))])[:12]
    worst = worst[said[worst] != y[worst]]
    plot_sheet(ax, images[worst], columns=12)
    ax.set_ylabel("worst mistakes" if len(worst) else "no mistakes")
    for i, n in enumerate(worst):
        right, wrong = caption(classes[y[n]], 12), caption(classes[said[n]], 8)
        share = "" if yes_or_no else f"{100 * P[said[n], n]:.1f} %"
        words = f"{right}:\nsaid {wrong}\n{share}"
        ax.text((i + 0.5) / 12, 1.02, words, transform=ax.transAxes, ha="center", va="bottom", fontsize=9)

def classify(net, files, pictures, classes, path, show):
    """Print the three likeliest classes of each picture, (H, W) uint8, and draw it as the net saw it. Returns
    the probabilities of all classes (K, n)."""
    P, n, columns = probabilities(net, np.stack(pictures)[:, None]), len(files), min(len(files), 6)
    layout = np.reshape([*range(n)] + ["."] * (-n % columns), (-1, columns))    # a dot is an empty place
    fig, ax = figure(layout.tolist(), 2.2 * columns, 3.2 * len(layout))
    for panel, file, picture, p in zip(ax.values(), files, pictures, P.T):
        best = [(classes[k], f"({100 * p[k]:.1f} %)") for k in p.argsort()[:-4:-1]]
        print(f"{file}: {', '.join(f'{name} {share}' for name, share in best)}")
        lines = [f"{caption(name)} {share}" for name, share in best]
        plot_sheet(panel, picture[None], "\n".join([caption(Path(file).name, 20), *lines]))
    finish(fig, path, show)
    return P

def run(main):
    """Run a script's main; errors that the user can fix print one line on stderr, not a traceback."""
    try:
        if hasattr(sys.stdout, "reconfigure"):          # consoles may lack letters, pipes must not wait
            sys.stdout.reconfigure(errors="replace", line_buffering=True)
        if "IPython" not in sys.modules and os.environ.get("MPLBACKEND", "").startswith("module:"):
            del os.environ["MPLBACKEND"]                # of a notebook that runs this as a program
        if not find_spec("matplotlib"):                 # not after the training
            raise UserError("matplotlib is missing: pip install matplotlib")
        with np.errstate(all="ignore"):                         # training checks its loss itself
            main()
    except BrokenPipeError:                             # whoever reads our output (`head`, say) has quit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        bar()
        sys.exit(130)
    except (UserError, OSError, MemoryError) as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")

with suppress(ImportError, OSError, AttributeError):    # Linux: keep freed memory, the next step needs it
    import ctypes
    ctypes.CDLL("libc.so.6").mallopt(-3, 32 << 20)      # M_MMAP_THRESHOLD
    ctypes.CDLL("libc.so.6").mallopt(-1, 512 << 20)     # M_TRIM_THRESHOLD
