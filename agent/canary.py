"""The canary: the program that a probe starts where no real file stands. Its bytes are written here, byte by byte.

It is unsigned, it does nothing, and every agent of a release carries the same one, so that a policy sees in it what it
would see in any unsigned program, and a security team knows it by its SHA-256. On Windows not even its one instruction
runs: the process is created suspended and ended. Beside it stand a library without an entry point and without imports,
which can be loaded and has nothing to run, and a script of one comment, of which policies are asked and nobody else.
"""

from __future__ import annotations

import struct

CANARY_VERSION = (1, 0, 0, 0)
"""Changes only when the bytes change: whoever allow-lists the canary by its hash has to hear of it."""

WINDOWS_SHA256 = "9f4449bd3ec733a37bfd0d60c345feaeb071bf0faf6cae196978dde8534abb2b"
WINDOWS_AUTHENTICODE_SHA256 = "b4fe573ef4d6c8f9f50731e3f82862cd7dc9a1e410ab175510be76f3df164cf8"
LINUX_SHA256 = "d68e102811fb733b054803e650b60fe7a7eebda6a05818961bcfba5b18e0e044"
LIBRARY_SHA256 = "8d3c07d87670d7c17540e02b50675d4c39e51e7de2465346d2dc07551b774bba"
LIBRARY_AUTHENTICODE_SHA256 = "a1e406afa55466062d4aa9b325ba0864b594608875d61e5f360e09115f3be67c"
SCRIPT_SHA256 = "01e21a214f4437e7db45363655d703254ff2e16936a6066332b76ed42c08b738"
"""Published in docs/agent.md; a test holds them to the bytes."""

CANARY_HASHES = frozenset(
    (
        WINDOWS_SHA256,
        WINDOWS_AUTHENTICODE_SHA256,
        LINUX_SHA256,
        LIBRARY_SHA256,
        LIBRARY_AUTHENTICODE_SHA256,
        SCRIPT_SHA256,
    )
)
"""Every hash by which a rule or an event may speak of a canary."""

_SECTION_ALIGNMENT = 0x1000
_FILE_ALIGNMENT = 0x200
_IMAGE_BASE = 0x140000000


def windows_canary() -> bytes:
    """A PE32+ program for x64 without imports: version information, and code that returns 0 at once.

    source: Microsoft PE Format; VS_VERSIONINFO.
    """
    # xor eax, eax; ret: returning from the entry point ends the process with 0.
    return _image(b"\x31\xc0\xc3", "Wayleave canary: started suspended, does nothing", "wayleave-canary.exe")


def windows_library() -> bytes:
    """A PE32+ library for x64 with version information and nothing else: no entry point, no imports, no code.

    source: Microsoft PE Format, AddressOfEntryPoint: "when no entry point is present, this field must be zero".
    """
    return _image(b"", "Wayleave canary: a library with nothing to run", "wayleave-canary.dll")


def windows_script() -> bytes:
    """A script of one comment, for every language that a policy may be asked about."""
    return f"# Wayleave canary script {'.'.join(map(str, CANARY_VERSION))}: does nothing\r\n".encode()


def _image(code: bytes, description: str, name: str) -> bytes:
    """A program if there is code, else a library of resources alone."""
    resources_rva = (2 if code else 1) * _SECTION_ALIGNMENT
    resources = _resource_section(resources_rva, description, name)
    sections = (
        (b".text", code, _SECTION_ALIGNMENT, 0x60000020),  # code, execute, read
        (b".rsrc", resources, resources_rva, 0x40000040),  # initialised data, read
    )[0 if code else 1 :]
    offset = _FILE_ALIGNMENT
    table, bodies = b"", b""
    for section, content, rva, flags in sections:
        raw = _padded(content, _FILE_ALIGNMENT)
        table += struct.pack("<8sIIIIIIHHI", section, len(content), rva, len(raw), offset, 0, 0, 0, 0, flags)
        bodies += raw
        offset += len(raw)
    image_bytes = resources_rva + _SECTION_ALIGNMENT
    headers = _pe_headers(
        len(code), len(_padded(resources, _FILE_ALIGNMENT)), image_bytes, resources_rva, len(resources)
    )
    image = _padded(headers + table, _FILE_ALIGNMENT) + bodies
    # The checksum field stands 64 bytes into the optional header, which follows 4 + 20 bytes after e_lfanew.
    position = 0x40 + 4 + 20 + 64
    return image[:position] + struct.pack("<I", _pe_checksum(image)) + image[position + 4 :]


def linux_canary() -> bytes:
    """A static ELF program for x86-64 that calls exit(0)."""
    note = b"Wayleave canary " + ".".join(map(str, CANARY_VERSION)).encode() + b": does nothing\0"
    # mov eax, 60 (exit); xor edi, edi; syscall
    code = b"\xb8\x3c\x00\x00\x00\x31\xff\x0f\x05"
    base, header_bytes = 0x400000, 64 + 2 * 56
    size = header_bytes + len(code) + len(note)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = ident + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, base + header_bytes, 64, 0, 0, 64, 56, 2, 64, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000)  # PT_LOAD, read + execute
    stack = struct.pack("<IIQQQQQQ", 0x6474E551, 6, 0, 0, 0, 0, 0, 16)  # PT_GNU_STACK, not executable
    return header + load + stack + code + note


def is_canary(content: bytes) -> bool:
    """Whether a file's content is a canary of this release, or the beginning of one whose writing was cut short."""
    return any(canary.startswith(content) for canary in CANARIES)


def _pe_headers(
    code_bytes: int, resource_file_bytes: int, image_bytes: int, resources_rva: int, resources: int
) -> bytes:
    dos = b"MZ" + bytes(58) + struct.pack("<I", 0x40)
    # x64, one or two sections, no time stamp, an optional header of 240 bytes, executable (and a library, if it has no
    # code), large-address-aware.
    sections, kind = (2, 0x0022) if code_bytes else (1, 0x2022)
    coff = b"PE\0\0" + struct.pack("<HHIIIHH", 0x8664, sections, 0, 0, 0, 240, kind)
    text_bytes = len(_padded(bytes(code_bytes), _FILE_ALIGNMENT))
    entry = _SECTION_ALIGNMENT if code_bytes else 0
    standard = struct.pack("<HBBIIIII", 0x20B, 1, 0, text_bytes, resource_file_bytes, 0, entry, _SECTION_ALIGNMENT)
    windows = struct.pack(
        "<QIIHHHHHHIIIIHHQQQQII",
        _IMAGE_BASE,
        _SECTION_ALIGNMENT,
        _FILE_ALIGNMENT,
        *(6, 0),  # operating system
        *CANARY_VERSION[:2],  # image
        *(6, 0),  # subsystem
        0,
        image_bytes,
        _FILE_ALIGNMENT,  # all headers fit one unit
        0,  # the checksum, filled in at the end
        2,  # a windowed program: it could not open a console even if it ran
        0x8160,  # high-entropy addresses, relocatable, no execution of data, terminal-server aware
        *(0x100000, 0x1000, 0x100000, 0x1000),  # stack and heap
        0,
        16,
    )
    directories = bytearray(16 * 8)
    struct.pack_into("<II", directories, 2 * 8, resources_rva, resources)
    return dos + coff + standard + windows + bytes(directories)


def _resource_section(rva: int, description: str, name: str) -> bytes:
    """A resource tree with one leaf: type 16 (version), id 1, language 1033."""
    version = _version_resource(description, name)

    def directory(entry_id: int, target: int) -> bytes:
        return struct.pack("<IIHHHH", 0, 0, 0, 0, 0, 1) + struct.pack("<II", entry_id, target)

    subdirectory = 0x80000000
    tree = directory(16, subdirectory | 24) + directory(1, subdirectory | 48) + directory(1033, 72)
    leaf = struct.pack("<IIII", rva + 72 + 16, len(version), 0, 0)
    return tree + leaf + version


def _version_resource(description: str, name: str) -> bytes:
    text = ".".join(map(str, CANARY_VERSION))
    high = CANARY_VERSION[0] << 16 | CANARY_VERSION[1]
    low = CANARY_VERSION[2] << 16 | CANARY_VERSION[3]
    kind = 2 if name.endswith(".dll") else 1
    # signature, structure version, file and product version, flags mask, flags, NT + Windows, application or library
    fixed = struct.pack("<13I", 0xFEEF04BD, 0x10000, high, low, high, low, 0x3F, 0, 0x40004, kind, 0, 0, 0)
    strings = b""
    for key, value in (
        ("CompanyName", "Wayleave"),
        ("FileDescription", description),
        ("FileVersion", text),
        ("InternalName", "wayleave-canary"),
        ("OriginalFilename", name),
        ("ProductName", "Wayleave"),
        ("ProductVersion", text),
    ):
        strings = _padded(strings, 4) + _version_block(key, (value + "\0").encode("utf-16-le"), b"", len(value) + 1, 1)
    table = _version_block("040904b0", b"", strings, 0, 1)
    string_info = _version_block("StringFileInfo", b"", table, 0, 1)
    translation = _version_block("Translation", struct.pack("<HH", 0x0409, 0x04B0), b"", 4, 0)
    var_info = _version_block("VarFileInfo", b"", translation, 0, 1)
    return _version_block("VS_VERSION_INFO", fixed, _padded(string_info, 4) + var_info, len(fixed), 0)


def _version_block(key: str, value: bytes, children: bytes, value_length: int, is_text: int) -> bytes:
    head = _padded(bytes(6) + (key + "\0").encode("utf-16-le"), 4)
    body = _padded(head + value, 4) + children if children else head + value
    return struct.pack("<HHH", len(body), value_length, is_text) + body[6:]


def _pe_checksum(image: bytes) -> int:
    """The sum of all 16-bit words with end-around carry, plus the length; the checksum field itself is zero here."""
    total: int = sum(struct.unpack(f"<{len(image) // 2}H", image))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total + len(image)


def _padded(content: bytes, unit: int) -> bytes:
    return content + bytes(-len(content) % unit)


WINDOWS_CANARY = windows_canary()
WINDOWS_LIBRARY = windows_library()
WINDOWS_SCRIPT = windows_script()
LINUX_CANARY = linux_canary()
CANARIES = (WINDOWS_CANARY, WINDOWS_LIBRARY, WINDOWS_SCRIPT, LINUX_CANARY)
