#!/usr/bin/env python3
"""The guest's half of the archived volume service's protocol, over again and by itself.

Nothing here is taken from this project's own code: framing, verbs and what counts as success are written down from how
that product behaved on the wire, so that a mistake which both of our ends share shows here.

    frame      u32 0x0BADBEEF, u32 length, length bytes: UTF-8 text and one NUL. Little-endian. Both directions.
    exchange   connect, one request, one reply, the server closes.
    request    {"cmd": verb, "details": {"Name": name, "Opts": {...}}, "version": "2"}
    reply      any JSON value; an object whose "Error" is a text that is not empty is a failure, all else is success.

Usage: original_client.py SCENARIO SOCKET [SOCKET of another VM]
A scenario ends with exit code 0 and a line "ok", or with what was wrong.
"""

import json
import resource
import socket
import statistics
import struct
import sys
import time

MAGIC = 0x0BADBEEF
# That client had no time limit; a test has one, far above what anything takes.
LIMIT = 60.0


class Refused(Exception):
    """The server's reply was a failure; its text."""


class Closed(Exception):
    """The server closed without a whole reply."""


def connect(path):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # First without a time limit: with one, a full queue of connections is an error instead of a wait.
    sock.connect(path)
    sock.settimeout(LIMIT)
    return sock


def body_of(verb, name, options=None, version="2"):
    details = {"Name": name}
    if options:
        details["Opts"] = options
    request = {"cmd": verb, "details": details}
    if version is not None:
        request["version"] = version
    return json.dumps(request).encode() + b"\0"


def frame(body):
    return struct.pack("<II", MAGIC, len(body)) + body


def read_exactly(sock, count):
    parts = b""
    while len(parts) < count:
        try:
            part = sock.recv(count - len(parts))
        except ConnectionResetError:
            part = b""
        if not part:
            raise Closed(f"{len(parts)} of {count} bytes")
        parts += part
    return parts


def read_reply(sock):
    """As that client reads: magic, length, and then the whole text in a single recv."""
    (magic,) = struct.unpack("<I", read_exactly(sock, 4))
    expect(magic == MAGIC, f"magic of the reply is {magic:#x}")
    (length,) = struct.unpack("<I", read_exactly(sock, 4))
    text = sock.recv(length)
    expect(len(text) == length, f"received {len(text)} expected {length}: it reads a reply in one go")
    expect(text.endswith(b"\0") and b"\0" not in text[:-1], "one NUL, at the end")
    expect(sock.recv(1) == b"", "one reply, then the end")
    return json.loads(text[:-1].decode())


def exchange(path, body, send=None):
    """One request as that client makes it: three sends, magic, length, text."""
    with connect(path) as sock:
        try:
            if send:
                send(sock, frame(body))
            else:
                sock.sendall(struct.pack("<I", MAGIC))
                sock.sendall(struct.pack("<I", len(body)))
                sock.sendall(body)
        except (BrokenPipeError, ConnectionResetError):
            pass
        return read_reply(sock)


def judged(reply):
    if isinstance(reply, dict) and isinstance(reply.get("Error"), str) and reply["Error"]:
        raise Refused(reply["Error"])
    return reply


def ask(path, verb, name="", options=None, version="2"):
    return judged(exchange(path, body_of(verb, name, options, version)))


def refused(path, verb, name="", options=None, version="2"):
    try:
        got = ask(path, verb, name, options, version)
    except Refused as why:
        return str(why)
    raise AssertionError(f"{verb} {name} was not refused: {got}")


def expect(truth, text):
    if not truth:
        raise AssertionError(text)


def is_address(device):
    """Three texts: a decimal unit, a decimal slot, and a PCI address as <hex>.<function>."""
    expect(set(device) >= {"Unit", "ControllerPciSlotNumber", "ControllerPciBusNumber"}, f"{device}")
    expect(all(isinstance(value, str) for value in device.values()), f"not all texts: {device}")
    expect(0 <= int(device["Unit"]) <= 15, f"{device}")
    int(device["ControllerPciSlotNumber"])
    bus, function = device["ControllerPciBusNumber"].split(".")
    int(bus, 16), int(function)


def in_use(said):
    expect(said.startswith("Failed to remove volume db1") and ", in use by VM = " in said, said)


def life(mine, other):
    """Create, attach, get, list, detach, remove; every verb twice, as a plugin that lost a reply asks."""
    expect(ask(mine, "list") == [], "nothing there yet")
    expect("version" in ask(mine, "version"), "a version")
    expect(ask(mine, "create", "db1", {"size": "200mb", "fstype": "ext4"}) is None, "create says null")
    # Its reply was lost: the plugin is still to format it.
    expect(ask(mine, "create", "db1", {"size": "200mb", "fstype": "ext4"}) is None, "asked again, before it was used")
    listed = ask(mine, "list")
    expect(len(listed) == 1 and listed[0]["Attributes"] == {}, f"{listed}")
    full = listed[0]["Name"]
    expect(full.startswith("db1@") and len(full) > 4, f"full names only: {full}")
    place = ask(mine, "attach", "db1")
    is_address(place)
    expect(ask(mine, "attach", full) == place, "attached already: the same place")
    again = refused(mine, "create", "db1", {"size": "200mb", "fstype": "ext4"})
    expect("already exists" in again, f"the words that plugin takes for success, and not the null that formats: {again}")
    got = ask(mine, "get", "db1")
    for key, value in {"status": "attached", "fstype": "ext4", "access": "read-write", "diskformat": "thin",
                       "datastore": full[4:], "attach-as": "independent_persistent", "clone-from": "None",
                       "attachedVMDevice": place}.items():
        expect(got.get(key) == value, f"{key} of {got}")
    expect(got["capacity"]["size"] == "200MB", f"{got}")
    time.strptime(got["created"], "%a %b %d %H:%M:%S %Y")
    busy = refused(mine, "remove", "db1")
    in_use(busy)
    held = refused(other, "remove", "db1")
    in_use(held)
    for _ in range(2):
        expect(ask(mine, "detach", "db1") is None, "detach says null, also when there is nothing to detach")
    expect(ask(other, "get", full)["status"] == "detached", "seen from the other VM")
    is_address(ask(other, "attach", "db1"))
    expect(ask(other, "detach", "db1") is None, "and back")
    expect(ask(mine, "create", "small") is None, "no size given")
    expect(ask(mine, "get", "small")["capacity"]["size"] == "100MB", "that plugin's size")
    for name in ("db1", "small"):
        for _ in range(2):
            expect(ask(mine, "remove", name) is None, "remove says null, also when there is nothing to remove")
    expect(ask(mine, "list") == [], "nothing left")
    expect(refused(mine, "get", "db1"), "and nothing to get")


def pieces(mine, _other):
    """However a request is cut, it is one request; however a reply is read, it is one reply."""
    expect(ask(mine, "create", "cut") is None, "create")
    whole = frame(body_of("get", "cut"))
    expected = judged(exchange(mine, whole[8:]))

    def at(place):
        def send(sock, data):
            sock.sendall(data[:place])
            # So that the first part is read before the rest is there.
            time.sleep(0.002)
            sock.sendall(data[place:])
        return send

    def one_by_one(sock, data):
        for byte in data:
            sock.sendall(bytes([byte]))
    for place in range(1, len(whole)):
        expect(exchange(mine, whole[8:], at(place)) == expected, f"cut at {place}")
    expect(exchange(mine, whole[8:], one_by_one) == expected, "byte by byte")
    expect(exchange(mine, whole[8:], lambda sock, data: sock.sendall(data)) == expected, "in one piece")
    with connect(mine) as sock:
        sock.sendall(whole)
        reply = b"".join(iter(lambda: sock.recv(1), b""))
        expect(json.loads(reply[8:-1]) == expected, "read byte by byte")
    # A reply of many kilobytes, which that client reads with one recv.
    for number in range(120):
        expect(ask(mine, "create", f"many-{number:03}-{'x' * 60}") is None, "create")
    expect(len(ask(mine, "list")) == 121, "all of them in one reply")


def wrong(mine, _other):
    """What is wrong is said, or the connection ends; the next request is served."""
    def closes(data):
        with connect(mine) as sock:
            sock.sendall(data)
            try:
                read_reply(sock)
            except (Closed, AssertionError):
                return
            raise AssertionError(f"answered: {data[:20]}")

    def told(data, *words):
        with connect(mine) as sock:
            try:
                sock.sendall(data)
            except (BrokenPipeError, ConnectionResetError):
                pass
            try:
                judged(read_reply(sock))
            except Refused as why:
                expect(all(word in str(why) for word in words), f"{data[:20]}: {why}")
                return
            raise AssertionError(f"not refused: {data[:20]}")

    def served():
        expect(ask(mine, "create", "canary") is None or True, "served")
        expect(ask(mine, "remove", "canary") is None, "served")

    # The original read 4096 bytes and hung up on the rest. Long options are no reason to hang up.
    long = {"size": "100mb", "fstype": "ext4", "policy-not-there": "x" * 5000}
    expect("policy-not-there" in refused(mine, "create", "long", long), "a request of 5 KB is read")
    told(frame(b"x" * 70_000 + b"\0"), "70001 bytes")
    told(frame(b"x" * 1_000_000 + b"\0"), "1000001 bytes")
    # Lengths that nothing follows: nobody waits for two or four thousand million bytes, or makes room for them.
    for length in (0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF):
        told(struct.pack("<II", MAGIC, length), f"{length} bytes")
    told(struct.pack("<II", MAGIC, 0), "NUL")
    told(frame(b'{"cmd":"list"}'), "NUL")
    told(frame(b'{"cmd":\0"list"}\0'), "NUL")
    told(frame(b'{"cmd":"\xff\xfe"}\0'), "UTF-8")
    told(frame(b"{not json\0"), "Failed to parse json '{not json'.")
    told(frame(b"[]\0"), "Server returned an error")
    told(frame(b'{"cmd":"create","version":"2"}\0'), "Server returned an error")
    told(frame(b'{"cmd":"format","details":{"Name":"x"},"version":"2"}\0'), "Unknown command:format")
    closes(struct.pack(">II", MAGIC, 10) + b"0123456789")
    closes(b"GET / HTTP/1.1\r\n\r\n")
    with connect(mine) as sock:
        sock.sendall(frame(body_of("create", "half"))[:-3])
    served()
    expect(all("half" not in volume["Name"] for volume in ask(mine, "list")), "half a request does nothing")


def versions(mine, _other):
    """Another protocol's number is refused before anything is done, for every verb; none is taken for ours."""
    for version in ("1", "3", "0", "-2", "two", "", "2.0", "99999999999999999999"):
        for verb in ("create", "attach", "get", "list", "detach", "remove", "version"):
            said = refused(mine, verb, "v", None, version)
            expect(said.startswith("There is a mismatch between VDVS client (Docker plugin) protocol version"), said)
            expect(f"({version}) and server (ESXi) protocol version (2)" in said, said)
    expect(ask(mine, "list") == [], "nothing was created")
    expect(ask(mine, "create", "v", None, None) is None, "no version is our version")
    expect(judged(exchange(mine, b'{"cmd":"list","version":2}\0'))[0]["Name"].startswith("v@"), "as a number")
    expect(ask(mine, "remove", "v") is None, "remove")


def silent(mine, other):
    """A thousand clients that say nothing, or stop in the middle, delay neither their own VM's nor another's."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    want = 2200
    if soft < want:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(want, hard) if hard > 0 else want, hard))

    def timed(path):
        begin = time.monotonic()
        expect("version" in ask(path, "version"), "a version")
        return time.monotonic() - begin
    before = [timed(path) for path in (mine, other) for _ in range(40)]
    parts = [b"", struct.pack("<I", MAGIC), struct.pack("<II", MAGIC, 200), frame(body_of("list", ""))[:-1]]
    crowd, during = [], []
    for number in range(1000):
        sock = connect(mine)
        part = parts[number % len(parts)]
        try:
            sock.sendall(part)
        except (BrokenPipeError, ConnectionResetError):
            pass
        crowd.append(sock)
        if number % 25 == 24:
            during += [timed(mine), timed(other)]
    during += [timed(path) for path in (mine, other) for _ in range(40)]
    print(f"figure: version request: median {statistics.median(before) * 1000:.1f} ms, among 1000 silent clients "
          f"{statistics.median(during) * 1000:.1f} ms, slowest {max(during) * 1000:.1f} ms")
    # A silent client is shown out after ten seconds; whoever had to wait for that would have waited so long.
    expect(max(during) < 5.0, f"a good client waited {max(during):.1f} s")
    for sock in crowd:
        sock.close()


SCENARIOS = {"life": life, "pieces": pieces, "wrong": wrong, "versions": versions, "silent": silent}


def main():
    if len(sys.argv) < 3 or sys.argv[1] not in SCENARIOS:
        sys.exit(f"usage: {sys.argv[0]} {'|'.join(SCENARIOS)} SOCKET [SOCKET]")
    try:
        SCENARIOS[sys.argv[1]](sys.argv[2], sys.argv[-1])
    except (AssertionError, Refused, Closed, OSError) as why:
        sys.exit(f"{sys.argv[1]}: {type(why).__name__}: {why}")
    print("ok")


main()
