"""What is in a folder or a zip: stills and clips, told by their first bytes; not thumbnails, bins, previews, proxies.

Independent of decoders and of the order of what it finds.
"""

import io
import re
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from .errors import RoadtripError
from .order import split_path

# by their names only files count whose first bytes say nothing: damaged ones, which are named as unreadable
STILLS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".heic", ".heif"}
VIDEOS = {".mp4", ".mov", ".mkv", ".avi", ".webm", ".gif", ".m4v", ".mpg", ".mpeg"}
HEIF = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"miaf", b"avif", b"avis"}
BITMAP_HEADS = re.compile(rb"(?s)BM.{4}\x00{4}|II\*\x00|MM\x00\*|P[1-6]\s(?:#[^\n]*\n|\s)*[0-9]+\s|P7\n")
STILL_HEADS = re.compile(rb"(?s)\xff\xd8\xff|\x89PNG\r\n|GIF8|RIFF....WEBP")
ANIMATION_HEADS = re.compile(
    rb"(?s)\x89PNG.{1,1000}acTL|GIF8.*NETSCAPE2\.0"
    rb"|RIFF....WEBPVP8X.{4}[\x02\x06\x0a\x0e\x12\x16\x1a\x1e\x22\x26\x2a\x2e\x32\x36\x3a\x3e]"
)
CLIP_HEADS = re.compile(
    rb"(?s)....(?:ftyp|moov|mdat|wide|free|skip|pnot)|\x1a\x45\xdf\xa3|RIFF....AVI |\x30\x26\xb2\x75\x8e\x66|FLV\x01"
    rb"|OggS|\x00\x00\x01[\xba\xb3]|\x00?\x00\x00\x01[\x09\x27\x40\x46\x67]|\x06\x0e\x2b\x34|DKIF|YUV4MPEG2|\x1f\x07\x00"
    rb"|.{0,207}?\x47(?:.{187}\x47.{187}|.{191}\x47.{191}|.{203}\x47.{203})\x47"
)
HEAD = 1024  # bytes of a file that its kind is told from
# what FFmpeg may take a file for: no playlists, which name other files
DEMUXERS = "mov,matroska,avi,asf,flv,ogg,mpeg,mpegts,mpegvideo,h264,hevc,m4v,mxf,dv,ivf,yuv4mpegpipe,gif"
# raw stills lie beside their JPEGs; the others are thumbnails, backups and downloads that broke off
NO_STILLS = re.compile(
    r"\.(dng|gpr|cr[23w]|nef|nrw|raw|arw|sr[2fw]|raf|orf|rw[2l]|pef|3fr|fff|iiq|mos|mef|dcr|kdc|erf|x3f"
    r"|thm|\w+_original|bak|tmp|part|crdownload)"
)
NO_FOLDERS = re.compile(  # of NAS, file managers and catalogues
    r"(?i)\..*|__macosx|@(eadir|recycle|recently.snapshot|tmp|sharebin|__thumb)|#(recycle|snapshot)|\$recycle\.bin"
    r"|recycle[rd]|system volume information|lost[.+]?(dir|found)|[._]?thumb(nail)?s?|.*thumbnails|.*\.lrdata"
    r"|_?previews?|prox(y|ies)|trash|(recently )?deleted|(ipod photo )?caches?"
)
PROXIES = re.compile(r"(?i)LRV_.*|.*\.(lrv|lrf)")  # a camera's small copies of its clips
MAX_ENTRIES = 100_000  # of a zip
MAX_BYTES = 64 * 2**30  # of a zip, unpacked
MAX_BYTES_STILL = 256 * 2**20  # of one of its stills
MAX_RATIO = 200  # unpacked over packed, where that is more than one still may have: bombs shrink, footage hardly does
COMPRESSION = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


@dataclass(frozen=True)
class Entry:
    """A file in a folder or a zip: its path there, its size in bytes, its kind (kind_of), what opens it, and the file
    where it is one by itself."""

    name: str
    size: int
    kind: str
    open: Callable[[], Any]  # IO[bytes]
    file: Path | None = None


def kind_of(head: bytes, name: str) -> str:
    """What a file is by its first HEAD bytes: "still", "animation", "clip", or "" for anything else."""
    suffix = split_path(name)[2]
    if (head[4:8] == b"ftyp" and head[8:12] in HEIF) or BITMAP_HEADS.match(head):
        return "still"
    if STILL_HEADS.match(head):
        return "animation" if ANIMATION_HEADS.match(head) else "still"
    if CLIP_HEADS.match(head) and head[8:12] != b"crx ":  # a Canon's raw still
        return "clip"
    is_text = all(byte > 8 for byte in head[:64])
    return "still" if suffix in STILLS else "clip" if suffix in VIDEOS and not is_text else ""


def read_head(opened: Callable[[], Any]) -> bytes:
    """The first HEAD bytes; none of a file that can't be read."""
    try:
        with opened() as file:
            return file.read(HEAD)
    except Exception:  # a damaged zip raises nearly anything
        return b""


def in_folder(path: Path) -> tuple[list[Entry], list[str]]:
    """What is in a folder and the folders below, and a sentence on what was left out. Raises OSError where the folder
    itself can't be read."""
    next(path.iterdir(), None)  # raises, which rglob does not
    found = {str(file.relative_to(path)): file for file in path.rglob("*") if file.is_file()}
    names, notes = _without_junk([*found])
    opens = [partial(found[name].open, "rb") for name in names]
    with ThreadPoolExecutor(8) as pool:  # a disk in the network answers each late, and many at once
        kinds = [kind_of(head, name) for head, name in zip(pool.map(read_head, opens), names)]
    return [Entry(n, found[n].stat().st_size, kind, op, found[n]) for n, kind, op in zip(names, kinds, opens)], notes


def in_zip(archive: zipfile.ZipFile, source: str) -> tuple[list[Entry], list[str]]:
    """What is in a zip, and a sentence on what was left out. Stills are opened in memory, whole.

    Raises RoadtripError for one that is too large or that no member of can be read by us.
    """
    found = {m.filename: m for m in archive.infolist() if not m.is_dir()}
    names, notes = _without_junk([*found])
    members = [found[name] for name in names]
    if len(members) > MAX_ENTRIES:
        raise RoadtripError(f"{source} holds {len(members)} files; at most {MAX_ENTRIES} are read.")
    footage = [m for m in members if split_path(m.filename)[2] in STILLS | VIDEOS]
    if any(m.flag_bits & 1 for m in footage):
        raise RoadtripError(f"{source} is encrypted; pack the stills again without a password.")
    if any(m.compress_type not in COMPRESSION for m in footage):
        raise RoadtripError(
            f"{source} is compressed by a method that can't be read, as Windows does over 2 GB (Deflate64); "
            "give the folder, or pack it again as an ordinary zip."
        )
    entries, packed, unpacked = [], 2**16, 0
    for m in members:
        head = read_head(partial(archive.open, m))
        kind = kind_of(head, m.filename)
        opened = partial(archive.open, m) if kind == "clip" else partial(_unpacked, archive, m)
        entries.append(Entry(m.filename, m.file_size, kind, opened))
        if kind and not BITMAP_HEADS.match(head):  # those of a night shrink like a bomb
            packed, unpacked = packed + m.compress_size, unpacked + m.file_size
    if unpacked > max(MAX_RATIO * packed, MAX_BYTES_STILL) or sum(m.file_size for m in members) > MAX_BYTES:
        raise RoadtripError(f"{source} would unpack to {unpacked / 2**30:.1f} GB; that is not a zip of stills.")
    return entries, notes


def _unpacked(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> IO[bytes]:
    with archive.open(member) as file:
        data = file.read(MAX_BYTES_STILL + 1)
    if len(data) > MAX_BYTES_STILL:
        raise OSError("too large")
    return io.BytesIO(data)


def _without_junk(names: Sequence[str]) -> tuple[list[str], list[str]]:
    kept, junk = [], 0
    for name in names:
        folders, stem, suffix = split_path(name)
        if any(NO_FOLDERS.fullmatch(folder) for folder in folders):
            junk += suffix in STILLS | VIDEOS
        elif not stem.startswith(".") and not NO_STILLS.fullmatch(suffix):
            kept.append(name)
    return kept, [f"Left out as thumbnails, previews or deleted: {junk} files."] if junk else []


def choose(entries: Sequence[Entry]) -> tuple[list[Entry], list[Entry], list[str]]:
    """(stills, clips, sentences on what is left out) of a folder or zip.

    Animations are clips where there are no plain stills. A clip as small as the still of its name is what a phone films
    beside a still, a still beside a far larger clip its thumbnail. Beside clips, one or two stills are no film.
    """
    stills = [e for e in entries if e.kind == "still"]
    animations = [e for e in entries if e.kind == "animation"]
    clips = [e for e in entries if e.kind == "clip"] + ([] if stills else animations)
    stills += animations if stills else []
    notes = []

    def without(of: list[Entry], unwanted: Callable[[Entry], bool], what: str) -> list[Entry]:
        kept = [e for e in of if not unwanted(e)]
        if len(kept) < len(of):
            notes.append(f"Left out as {what}: {len(of) - len(kept)} files.")
        return kept

    if not all(PROXIES.fullmatch(_base(clip)) for clip in clips):
        clips = without(clips, lambda clip: bool(PROXIES.fullmatch(_base(clip))), "small copies of clips")
    sizes = {_path(still): still.size for still in stills}
    clips = without(clips, lambda c: c.size <= 10 * sizes.get(_path(c), -1), "clips of a moment beside a still")
    thumbnails = {_path(clip) for clip in clips}
    stills = without(stills, lambda still: _path(still) in thumbnails, "thumbnails of clips")
    if clips and len(stills) < 3:
        stills = without(stills, lambda still: True, "too few stills beside clips")
    if clips and stills:
        notes.append(f"{len(stills)} stills, then {len(clips)} clips, each a drive of its own.")
    return stills, clips, notes


def _path(entry: Entry) -> tuple[str, ...]:
    folders, stem, _ = split_path(entry.name)
    return *folders, stem.lower()


def _base(entry: Entry) -> str:
    _, stem, suffix = split_path(entry.name)
    return stem + suffix
