"""Whatever is in a file, opening it gives what it holds or one sentence: mutated bytes and values of every format.

`make test` tries 200 files, `make fuzz` as many as ROADTRIP_FUZZ says.
"""

import json
import os
import signal
import zipfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import av
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pillow_heif import register_heif_opener
from safetensors.torch import load_file, save_file

import roadtrip as rt
from roadtrip import study

CLIPS = {"mp4": "libx264", "mkv": "ffv1", "webm": "libvpx", "avi": "mjpeg", "mov": "prores_ks", "ts": "mpeg2video"}
PIXELS = {"ffv1": "yuv444p", "mjpeg": "yuvj420p", "prores_ks": "yuv422p10le"}
STILLS = ("png", "jpg", "webp", "gif", "bmp", "tiff", "ppm", "avif", "heic")
ANIMATIONS = ("gif", "webp", "png", "avif")
FORMATS = (
    "model.safetensors",
    "config.json",
    "train-state.safetensors",
    "tensors",
    "x.film",
    "results.json",
    *(f"1.{kind}" for kind in STILLS),
    *(f"moving.{kind}" for kind in ANIMATIONS),
    *(f"clip.{kind}" for kind in CLIPS),
    "stills.zip",
    "clips.zip",
)
CASES = int(os.environ.get("ROADTRIP_FUZZ", 200))
ODD = st.sampled_from(
    [
        None,
        True,
        -1,
        0,
        1,
        2**31,
        2**63,
        1e308,
        0.5,
        "",
        "x",
        "\0",
        "../x",
        "é" * 300,
        [],
        {},
        [[]],
        [1, [2]],
        {"a": {}},
    ]
)
HOW = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck), "derandomize": CASES == 200}
TINY = replace(rt.RECIPES["v3-pair"], name="tiny", width=8, depth=0, disc_width=8, batch=1)


@pytest.fixture(scope="module")
def film():
    frames = torch.randint(256, (40, 3, 16, 24), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return rt.open_film(rt.Film(frames, (), 1, 8.0, (0,), "noise", "0" * 64, drive_ids=("0" * 64,)), size=(16, 24))


@pytest.fixture(scope="module")
def originals(film, tmp_path_factory) -> Path:
    """One good file of each format."""
    home = tmp_path_factory.mktemp("originals")
    *_, p = rt.train(TINY, film, steps=2, preview_every=1e9)
    rt.save(home, p, resumable=True)
    film.save(home / "x.film")
    rows = json.loads((Path(__file__).parents[1] / "checkpoints" / "results.json").read_text())["runs"][:2]
    (home / "results.json").write_text(json.dumps({"runs": rows}))
    register_heif_opener()
    pictures = [Image.fromarray(frame.movedim(0, -1).numpy()).resize((48, 32)) for frame in film.frames[:6]]
    for i, picture in enumerate(pictures[:3]):
        for kind in STILLS:
            picture.save(home / f"{i}.{kind}")
    for kind in ANIMATIONS:
        pictures[0].save(home / f"moving.{kind}", save_all=True, append_images=pictures[1:], duration=100)
    for kind, codec in CLIPS.items():
        with av.open(str(home / f"clip.{kind}"), "w") as container:
            stream = container.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = 96, 64, PIXELS.get(codec, "yuv420p")
            for picture in pictures * 2:
                container.mux(stream.encode(av.VideoFrame.from_image(picture.resize((96, 64)))))
            container.mux(stream.encode())
    for name, kinds in (("stills", STILLS), ("clips", CLIPS)):
        with zipfile.ZipFile(home / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for kind in kinds:
                file = home / f"{'1' if name == 'stills' else 'clip'}.{kind}"
                archive.write(file, f"trip/{kind}-{file.name}")
    return home


def bytes_mutated(raw: bytes, draw) -> bytes:
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(raw) - 1) | st.integers(0, min(64, len(raw) - 1))) if raw else 0
        kind = draw(st.sampled_from(["flip", "cut", "insert", "repeat", "zero", "drop"]))
        some = draw(st.binary(min_size=1, max_size=16))
        end = min(len(raw), place + draw(st.integers(1, 300)))
        if kind == "cut":
            raw = raw[:place]
        elif kind == "insert":
            raw = raw[:place] + some + raw[place:]
        elif kind == "repeat":
            raw = raw[:end] + raw[place:]
        elif kind == "drop":
            raw = raw[:place] + raw[end:]
        else:
            new = bytes(end - place) if kind == "zero" else some
            raw = raw[:place] + new + raw[place + len(new) :]
    return raw


def json_mutated(value, draw):
    """The value with another one somewhere in it."""
    if isinstance(value, str) and value[:1] == "{":  # JSON in JSON
        return json.dumps(json_mutated(json.loads(value), draw))
    inner = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    if not inner or draw(st.integers(0, 9)) == 0:
        return "[" * 9000 if draw(st.integers(0, 19)) == 0 else draw(ODD)
    key, value = draw(st.sampled_from(list(inner))), value.copy()
    how = draw(st.integers(0, 9))
    if how == 0:
        del value[key]
    elif how == 1 and isinstance(value, dict):
        value["surplus"] = draw(ODD)
    else:
        value[key] = json_mutated(value[key], draw)
    return value


def header_mutated(raw: bytes, draw) -> bytes:
    """A safetensors file with another header."""
    n = int.from_bytes(raw[:8], "little")
    header = json.dumps(json_mutated(json.loads(raw[8 : 8 + n]), draw)).encode()
    return len(header).to_bytes(8, "little") + header + raw[8 + n :]


def tensors_mutated(file: Path, draw) -> None:
    """A whole train-state with a tensor too many, too few, or another one."""
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        facts = opened.metadata()
    tensors = load_file(file)
    name = draw(st.sampled_from(sorted(tensors)))
    odd = [
        torch.zeros(0),
        torch.full((3,), float("nan")),
        torch.zeros(2, dtype=torch.int64),
        tensors[name].flatten()[:1],
    ]
    kind = draw(st.integers(0, 2))
    if kind == 0:
        del tensors[name]
    else:
        surplus = draw(
            st.sampled_from(["optimiser.999.exp_avg", "muon.-1.momentum", "x", "optimiser.a.b.c", "random.0"])
        )
        tensors[name if kind == 1 else surplus] = draw(st.sampled_from(odd)).clone()
    save_file(tensors, file, facts)


@contextmanager
def no_hang(seconds=120):
    def late(*_):
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def open_it(name: str, home: Path, film: rt.Film) -> None:
    if name in ("model.safetensors", "config.json"):
        model = rt.load(home)
        rt.rollout(model, film.frames[0], film.frames[1], 2)
    elif name in ("train-state.safetensors", "tensors"):
        *_, _ = rt.train(TINY, film, steps=3, resume=home, preview_every=1e9)
    elif name == "results.json":
        rows = study.read_results(home / name)
        study.plan([], rows)
        study.write_results(home / name, rows)
    else:
        source = home if name.startswith("1.") else home / name
        rt.open_film(source, size=(16, 24), cache=False).describe()


@pytest.mark.parametrize("name", FORMATS)
def test_any_file_opens_or_is_refused_in_a_sentence(name, originals, film, tmp_path):
    file = tmp_path / ("train-state.safetensors" if name == "tensors" else name)
    beside = {"model.safetensors": ["config.json"], "config.json": ["model.safetensors"]}.get(name, [])
    beside += [f"{i}{file.suffix}" for i in (0, 2)] if name.startswith("1.") else []
    beside += ["model.safetensors", "config.json"] if "state" in file.name else []
    for other in beside:
        (tmp_path / other).write_bytes((originals / other).read_bytes())
    raw, opened = (originals / file.name).read_bytes(), []

    @settings(max_examples=-(-CASES // len(FORMATS)), **HOW)
    @given(st.data())
    def check(data):
        if name == "tensors":
            file.write_bytes(raw)
            tensors_mutated(file, data.draw)
        elif file.suffix == ".json" and data.draw(st.booleans()):
            file.write_text(json.dumps(json_mutated(json.loads(raw), data.draw)))
        elif file.suffix in (".safetensors", ".film") and data.draw(st.booleans()):
            file.write_bytes(header_mutated(raw, data.draw))
        else:
            file.write_bytes(bytes_mutated(raw, data.draw))
        with no_hang():
            try:
                open_it(name, tmp_path, film)
                opened.append(True)
            except rt.RoadtripError as error:
                assert 10 < len(str(error)) < 500 and "\n" not in str(error) and "/tmp" not in str(error)
        assert sorted(p.name for p in tmp_path.iterdir()) == sorted({file.name, *beside}), "something is left"

    check()
