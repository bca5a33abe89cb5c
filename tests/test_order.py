"""The order of stills from names and EXIF times that disagree, in part or wholly; copies; two cameras."""

import random
from datetime import UTC, datetime, timedelta
from zlib import crc32

import pytest

from roadtrip.contents import kind_of
from roadtrip.order import Shot, arrange, cameras_of_clips, drives, natural, rising, same_recording

START = datetime(2021, 3, 14, 9, 26, 53, tzinfo=UTC)


def at(seconds: float, start: datetime = START) -> str:
    return (start + timedelta(seconds=seconds)).strftime("%Y:%m:%d %H:%M:%S")


def is_in_order(shots: list[Shot]) -> list[str]:
    """The sentences about stills that were given in their true order and are found in it, however they are listed."""
    for seed in range(3):
        listed = random.Random(seed).sample(range(len(shots)), len(shots))
        order, notes = arrange([shots[i] for i in listed])
        assert [listed[k] for k in order] == list(range(len(shots)))
    return notes


def letters(n: int) -> list[str]:
    """Names that say nothing of the order."""
    draw = random.Random(7)
    return ["".join(draw.choices("abcdefghij", k=9)) + ".jpg" for _ in range(n)]


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        ["day2/a9.jpg", "day2/a10.jpg", "day2 b/a1.jpg", "day10/a1.jpg"],
        ["P1.jpg", "P1 (1).jpg", "P1 (2).jpg", "P2.jpg", "P10.jpg", "P10 - Copy.jpg", "P11~2.jpg"],
        ["walk (1).png", "walk (2).png", "walk (10).png"],
        ["0.25.jpg", "0.5.jpg", "0.75.jpg", "1.0.jpg", "1.125.jpg", "11.5.jpg"],
        ["1700000001.031.png", "1700000001.3.png", "1700000001.31.png", "1700000002.0.png"],
        ["reel1.8.png", "reel1.9.png", "reel1.10.png", "reel1.11.png", "reel2.1.png"],
        ["5.2.2021 8.30.jpg", "5.2.2021 10.5.jpg", "5.12.2021 9.10.jpg"],
        ["1565012345.03", "1565012345.2", "1565012345.254"],
        ["GOPR0072.MP4", "GP010072.MP4", "GP020072.MP4", "GH010073.MP4", "GH020073.MP4", "GX010074.MP4"],
    ],
)
def test_names_are_sorted_as_people_count(names):
    mixed = random.Random(1).sample(names, len(names))
    assert [mixed[i] for i in natural(mixed)] == names


@pytest.mark.parametrize("pattern, first, last", [("DSCN{:04d}", 9987, 9999), ("P{:03d}", 990, 999)])
@pytest.mark.parametrize("timed", [True, False])
def test_a_counter_that_runs_over(pattern, first, last, timed):
    numbers = [*range(first, last + 1), *range(1, 30)]
    shots = [Shot(pattern.format(n) + ".JPG", taken=at(3 * i) if timed else "") for i, n in enumerate(numbers)]
    assert len(is_in_order(shots)) == 1


def test_a_whole_row_of_numbers_begins_where_it_begins():
    for numbers in (range(1000), range(1, 10000, 7), [*range(1, 300), *range(500, 1000)], range(9000, 10050)):
        is_in_order([Shot(f"x{n:03d}.png") for n in numbers])
    # the times tell that nothing ran over: both ends were there from the first
    numbers = [*range(1, 20), *range(9980, 10000)]
    assert is_in_order([Shot(f"{n:04d}.jpg", taken=at(5 * i)) for i, n in enumerate(numbers)]) == []


# --- times ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zones", [(2, 3), (3, 2), (-3.5, -4.5), (0, -1), (-7, 9)])
@pytest.mark.parametrize("named", ["letters", "dates", "counter"])
def test_a_change_of_time_zone(zones, named):
    shots = []
    for i, name in enumerate(letters(40)):
        zone = zones[i >= 20]
        local = 420 * i + 3600 * zone
        name = {"dates": f"IMG_{START + timedelta(seconds=local):%Y%m%d_%H%M%S}.jpg", "counter": f"{i}.jpg"}.get(
            named, name
        )
        offset = f"{'-' if zone < 0 else '+'}{int(abs(zone)):02d}:{int(abs(zone) % 1 * 60):02d}" if zone else "Z"
        known = named != "counter" or i % 7 != 3
        shots.append(Shot(name, taken=at(local), offset=offset if known else ""))
    notes = is_in_order(shots)
    assert named == "letters" or not any("disagree" in note for note in notes)


def test_a_clock_set_back_without_an_offset():
    times = [420 * i - 3600 * (i >= 15) for i in range(40)]
    notes = is_in_order([Shot(f"IMG_{2000 + i}.jpg", taken=at(t)) for i, t in enumerate(times)])
    assert notes == ["Placed by their names, as their times disagree with the others': 8 of 40."]


@pytest.mark.parametrize(
    "empty", ["", "0000:00:00 00:00:00", "    :  :     :  :  ", "1970:01:01 00:00:00", "2021:13:40"]
)
@pytest.mark.parametrize("first", [9970, 120])
def test_stills_without_a_time(empty, first):
    shots = []
    for i in range(60):
        lost = i % 4 == 1 or i in (30, 31, 59)
        shots.append(Shot(f"R{(first + i - 1) % 9999 + 1:04d}.jpg", taken=empty if lost else at(2 * i)))
    notes = is_in_order(shots)
    assert notes[0] == "Placed by their names, as they have no usable time: 18 of 60."
    assert len(notes) == 1 + (first == 9970)


@pytest.mark.parametrize("restarts", [(13,), (20,), (9, 21, 33)])
def test_a_clock_that_starts_again(restarts):
    """At the battery's end it is 2015 again; the counter of the names goes on, and runs over too."""
    for first in (480, 9981):
        shots = []
        for i in range(40):
            last = max((r for r in restarts if r <= i), default=None)
            taken = at(2 * i) if last is None else at(2 * (i - last), datetime(2015, 1, 1, tzinfo=UTC))
            shots.append(Shot(f"G{(first + i - 1) % 9999 + 1:04d}.JPG", taken=taken))
        assert any("times disagree" in note for note in is_in_order(shots))


def test_a_few_wrong_times_or_names():
    shots = [Shot(f"IMG_{70 + i}.jpg", taken=at(2 * i)) for i in range(30)]
    wrong = {4: at(9e6), 11: at(-5e6), 12: at(-5e6), 29: at(0)}
    notes = is_in_order([Shot(s.name, taken=wrong.get(i, s.taken)) for i, s in enumerate(shots)])
    assert notes == ["Placed by their names, as their times disagree with the others': 4 of 30."]
    renamed = {3: "a beach.jpg", 17: "the bridge.jpg", 20: "IMG_2.jpg", 29: "0 first.jpg"}
    notes = is_in_order([Shot(renamed.get(i, s.name), taken=s.taken) for i, s in enumerate(shots)])
    assert notes == ["Placed by their times, not in the order of their names: 4 of 30."]


def test_names_given_at_random_count_less_than_times():
    for names in (letters(50), [f"{i:03d}.jpg" for i in random.Random(3).sample(range(50), 50)]):
        (note,) = is_in_order([Shot(name, taken=at(i)) for i, name in enumerate(names)])
        assert "Placed by their times" in note


def test_a_second_set_of_numbers_that_was_copied_into_the_folder():
    """The counter began again on the second day; the file manager kept both by adding (1)."""
    shots = [Shot(f"IMG_{i:04d}.jpg", taken=at(2 * i)) for i in range(1, 20)]
    shots += [Shot(f"IMG_{i:04d} (1).jpg", taken=at(86400 + 2 * i)) for i in range(1, 20)]
    is_in_order(shots)


def test_dates_in_names_stand_in_for_lost_times():
    shots = []
    for i in range(30):
        made = START + timedelta(seconds=30 * i)
        name = (f"PXL_{made:%Y%m%d_%H%M%S}123.jpg", f"Photo {made:%Y-%m-%d at %H.%M.%S}.jpg")[i % 3 == 0]
        # as the camera wrote it, stripped, or edited a year later
        shots.append(Shot(name, taken=(at(30 * i + 3600), "", at(3e7))[i % 5 - 2 if i % 5 > 2 else 0]))
    is_in_order(shots)


@pytest.mark.parametrize(
    "fractions",
    [(" 70", "320", "570", "820"), ("70", "320", "570", "820"), ("07", "32", "57", "82"), ("070", "32", "57", "82")],
)
def test_fractions_of_a_second_as_cameras_write_them(fractions):
    assert is_in_order([Shot(f"G{i:05d}.jpg", taken=at(i // 4), subsec=fractions[i % 4]) for i in range(40)]) == []
    if len(set(map(len, fractions))) == 1 or fractions[0][0] == "0":  # alone they tell it too
        is_in_order([Shot(n, taken=at(i // 4), subsec=fractions[i % 4]) for i, n in enumerate(letters(40))])


def test_fractions_of_one_to_three_digits_under_names_that_say_nothing():
    shots = [Shot(n, taken=at(i // 3), subsec=("25", "5", "75")[i % 3]) for i, n in enumerate(letters(60))]
    is_in_order(shots)


def test_any_mix_of_a_few_faults():
    """Counters of any kind, with gaps, that may run over; times of some missing, wrong or in another zone."""
    for seed in range(300):
        draw = random.Random(seed)
        digits, n = draw.choice([4, 5]), draw.randint(20, 80)
        number, zone, zones, shots = draw.randint(1, 10**digits - 1), 0.0, draw.choice([(0,), (0, 1), (0, -1)]), []
        for i in range(n):
            number = (number + draw.choice([1, 1, 1, 2, 3]) - 1) % (10**digits - 1) + 1
            zone = zones[2 * i // n % len(zones)]
            fault = draw.random()
            taken = "" if fault < 0.1 else at(draw.uniform(-1e8, 1e8)) if fault < 0.2 else at(40 * i + 3600 * zone)
            shots.append(Shot(f"C{number:0{digits}d}.jpg", taken=taken, offset=f"{zone:+03.0f}:00"))
        is_in_order(shots)


def test_the_longest_rising_part():
    assert [rising(v) for v in ([], [3], [1, 1], [2, 1])] == [[], [0], [0, 1], [1]]
    values = random.Random(0).choices(range(20), k=12)
    best = max(
        (k for k in range(2**12) if (part := [v for i, v in enumerate(values) if k >> i & 1]) == sorted(part)),
        key=int.bit_count,
    )
    part = [values[i] for i in rising(values)]
    assert part == sorted(part) and len(part) == best.bit_count()


# --- copies and cameras -----------------------------------------------------------------------------------------------


def split(shots: list[Shot], views: list[float] | None = None) -> tuple[list[list[str]], list[str]]:
    """The names of each drive; `views` are what the stills show, as one number each."""
    views = views or [float(crc32(s.digest) % 997) for s in shots]
    found, notes = drives(shots, lambda a, b: abs(views[a] - views[b]))
    return [[shots[i].name for i in drive] for drive in found], notes


def test_copies_count_once():
    names = [f"IMG_{i:04d}.JPG" for i in range(12)]
    copied = ["IMG_0003 (1).JPG", "IMG_0004 - Copy.JPG", "IMG_0005 copy 2.JPG", "backup/IMG_0006.JPG", "sunset.JPG"]
    digests = [*map(str, range(12)), "3", "4", "5", "6", "7"]
    for taken in ("", "2020:02:02 02:02:02"):
        shots = [Shot(n, d.encode(), taken) for n, d in zip([*names, *copied], digests)]
        assert split(shots) == ([names], ["Left out as copies of others: 5 of 17."])


def test_a_car_that_stands_is_no_row_of_copies():
    names = [f"{i:04d}.png" for i in range(50)]
    shots = [Shot(n, str(min(i, 20)).encode()) for i, n in enumerate(names)]
    assert split(shots) == ([names], [])
    # with times a camera never writes the same bytes twice; files whose ends alone are alike differ in their picture
    timed = [Shot(s.name, s.digest, at(0)) for s in shots]
    assert len(split(timed)[0][0]) == 21 and split(timed, [float(i) for i in range(50)])[0] == [names]


def test_one_shot_saved_in_two_formats():
    shots = [Shot(f"IMG_{i}.{kind}", f"{i}{kind}".encode()) for i in range(10) for kind in ("heic", "jpg")]
    (found,), notes = split(shots, [10.0 * (i // 2) + i % 2 for i in range(20)])
    assert found == [f"IMG_{i}.heic" for i in range(10)] and len(notes) == 1
    assert len(split(shots, [10.0 * i for i in range(20)])[0][0]) == 20  # another picture of that name


def test_cameras_by_exif():
    a = [Shot(f"DSC{i:04d}.jpg", f"a{i}".encode(), at(9 * i), camera="SONY A7" if i % 5 else "") for i in range(20)]
    b = [Shot(f"IMG_{i:04d}.jpg", f"b{i}".encode(), at(9 * i + 4), camera="Apple iPhone 11") for i in range(6)]
    c = [Shot(f"IMG_{i:04d}.jpg", f"c{i}".encode(), at(9 * i + 99), camera="Apple iPhone 11 Pro") for i in range(8, 14)]
    found, notes = split([*a, *b, *c])
    assert found == [[s.name for s in of] for of in (a, b, c)]
    assert notes == [
        "Told apart as 3 cameras, which follow one another as drives of their own: "
        "SONY A7 (20), Apple iPhone 11 (6), Apple iPhone 11 Pro (6)."
    ]
    # the same model twice; of the first some have lost the number
    one = [Shot(f"a{i}.jpg", f"a{i}".encode(), at(3 * i), camera="GoPro H9" + " #12" * (i != 4)) for i in range(9)]
    two = [Shot(f"b{i}.jpg", f"b{i}".encode(), at(3 * i + 1), camera="GoPro H9 #34") for i in range(9)]
    assert split([*one, *two])[0] == [[s.name for s in of] for of in (one, two)]


@pytest.mark.parametrize("one, two", [("{:04d}F", "{:04d}R"), ("left{:03d}", "right{:03d}"), ("a/{:02d}", "b/{:02d}")])
def test_cameras_by_their_names(one, two):
    """As alike as two eyes, so that only names and times tell them apart."""
    names = [[n.format(i) + ".jpg" for i in range(15)] for n in (one, two)]
    shots = [Shot(n, n.encode(), at(i)) for of in names for i, n in enumerate(of)]
    assert split(shots, [float(i) for _ in "ab" for i in range(15)])[0] == names


@pytest.mark.parametrize("turn", [2, 3])
def test_cameras_in_turn_by_what_they_show(turn):
    """One counter, and a shot is missing: 0 1 2 3 4 6 7 … still falls into views that stay alike."""
    kept = [i for i in range(40) if i != 13]
    shots = [Shot(f"{i:04d}.jpg", str(i).encode()) for i in kept]
    found, notes = split(shots, [100.0 * (i % turn) + 0.5 * i for i in kept])
    assert found == [[f"{i:04d}.jpg" for i in kept if i % turn == k] for k in range(turn)]
    assert "Told apart as" in notes[0]


def test_one_camera_is_not_taken_apart():
    draw = random.Random(0)
    for views in (
        [3.0 * i for i in range(60)],
        [draw.uniform(0, 200) for i in range(60)],  # a time lapse in which nothing comes back
        [draw.uniform(0, 1) for i in range(60)],  # a camera that stands
        [50.0 * (i % 2) + 30 * i for i in range(60)],
    ):
        for name in ("{:04d}.jpg", "IMG_{:04d}.jpg"):
            shots = [Shot(name.format(i), str(i).encode(), at(i)) for i in range(60)]
            assert len(split(shots, views)[0]) == 1
    # a phone's bursts and panoramas among its shots; two days with the same numbers
    shots = [Shot(f"{('IMG', 'PANO')[i % 3 == 0]}_{i:04d}.jpg", str(i).encode(), at(i)) for i in range(60)]
    assert len(split(shots, [2.0 * i for i in range(60)])[0]) == 1
    shots = [Shot(f"day{d}/{i:04d}.jpg", f"{d}{i}".encode(), at(86400 * d + i)) for d in (1, 2) for i in range(20)]
    assert len(split(shots)[0]) == 1


@pytest.mark.parametrize("second", [" (1)", "(0)", "_1", "~2", "_001", " copy"])
@pytest.mark.parametrize("timed", [True, False])
def test_a_second_shot_within_a_second_is_no_second_camera(second, timed):
    """A phone names it after the first."""
    names = [f"VID_20220710_0915{i:02d}{s}.jpg" for i in range(12) for s in ("", second)]
    shots = [Shot(n, n.encode(), at(i // 2) if timed else "", "750" if i % 2 else "250") for i, n in enumerate(names)]
    for views in ([10.0 * i for i in range(24)], None):
        assert split(shots, views) == ([names], [])


def test_a_picture_that_is_not_numbered_like_the_others():
    shots = [Shot(f"trip/{i:03d}.jpg", str(i).encode()) for i in range(20)] + [Shot("poster.jpg", b"x")]
    found, notes = split(shots)
    assert len(found[0]) == 20 and notes == ["Left out, as they are not numbered like the others: poster."]
    assert len(split([Shot("poster.jpg", b"x", at(3)), *shots[:-1]])[0][0]) == 21  # it has a time, and so a place


def test_clips():
    names = ["20210314_0926_F.MP4", "20210314_0926_R.MP4", "20210314_0929_F.MP4", "20210314_0929_R.MP4"]
    assert cameras_of_clips(names) == [[0, 2], [1, 3]]
    assert cameras_of_clips(["b/9.mp4", "b/10.mp4", "a/x.mp4"]) == [[2, 0, 1]]
    assert same_recording("100GOPRO/GX010031.MP4", "GX020031.mp4") and not same_recording(
        "GX010031.MP4", "GX010032.MP4"
    )
    assert same_recording("GOPR0031.MP4", "GP010031.MP4") and not same_recording("a.mp4", "a.mp4")


@pytest.mark.parametrize(
    "head, name, kind",
    [
        (b"\xff\xd8\xff\xe1", "a.mp4", "still"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "a", "still"),
        (b"RIFF\0\0\0\0WEBPVP8X\0\0\0\0\x12", "a.webp", "animation"),
        (b"\0\0\0\x18ftypavif", "a.jpg", "still"),
        (b"\0\0\0\x18ftypqt  ", "a.jpg", "clip"),
        (b"\0\0\0\x18ftypcrx ", "a.cr3", ""),
        ((b"G" + bytes(187)) * 5, "a.bin", "clip"),
        (bytes(99) + (bytes(4) + b"G" + bytes(187)) * 4, "cut off.m2ts", "clip"),
        (b"#EXTM3U\n", "a.mp4", ""),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "a.mov", ""),
        (b"hello", "a.jpg", "still"),
        (b"", "a.mp4", ""),
        (b"PK\3\4", "a.docx", ""),
    ],
)
def test_the_first_bytes_say_what_a_file_is(head, name, kind):
    assert kind_of(head, name) == kind
