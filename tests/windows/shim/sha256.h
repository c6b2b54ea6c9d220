// SHA-256 (FIPS 180-4) and, on top of it, the Authenticode digest of a PE file: what an AppLocker hash rule holds.
#ifndef SHA256_H
#define SHA256_H
#include <windows.h>
#include <string.h>

struct sha256 {
    DWORD state[8];
    unsigned long long length;
    BYTE block[64];
};

static const DWORD sha256_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
    0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
    0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
    0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
    0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
    0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static DWORD rotate(DWORD word, int bits) { return word >> bits | word << (32 - bits); }

static void sha256_begin(struct sha256 *hash) {
    static const DWORD start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memcpy(hash->state, start, sizeof start);
    hash->length = 0;
}

static void sha256_block(struct sha256 *hash, const BYTE *block) {
    DWORD w[64], v[8];
    for (int i = 0; i < 16; i++)
        w[i] = (DWORD)block[4 * i] << 24 | (DWORD)block[4 * i + 1] << 16 | (DWORD)block[4 * i + 2] << 8 | block[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        DWORD low = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
        DWORD high = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + low + w[i - 7] + high;
    }
    memcpy(v, hash->state, sizeof v);
    for (int i = 0; i < 64; i++) {
        DWORD sum1 = rotate(v[4], 6) ^ rotate(v[4], 11) ^ rotate(v[4], 25);
        DWORD choice = (v[4] & v[5]) ^ (~v[4] & v[6]);
        DWORD first = v[7] + sum1 + choice + sha256_constants[i] + w[i];
        DWORD sum0 = rotate(v[0], 2) ^ rotate(v[0], 13) ^ rotate(v[0], 22);
        DWORD majority = (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]);
        memmove(v + 1, v, 7 * sizeof *v);
        v[4] += first;
        v[0] = first + sum0 + majority;
    }
    for (int i = 0; i < 8; i++) hash->state[i] += v[i];
}

static void sha256_add(struct sha256 *hash, const void *data, size_t size) {
    const BYTE *bytes = data;
    while (size) {
        size_t used = hash->length % 64, take = 64 - used < size ? 64 - used : size;
        if (!used && take == 64) {
            sha256_block(hash, bytes);
        } else {
            memcpy(hash->block + used, bytes, take);
            if (used + take == 64) sha256_block(hash, hash->block);
        }
        hash->length += take;
        bytes += take;
        size -= take;
    }
}

static void sha256_hex(struct sha256 *hash, WCHAR *hex) {
    static const BYTE padding[64] = {0x80};
    unsigned long long bits = hash->length * 8;
    BYTE length[8];
    for (int i = 0; i < 8; i++) length[i] = (BYTE)(bits >> (56 - 8 * i));
    sha256_add(hash, padding, 1 + (119 - hash->length % 64) % 64);
    sha256_add(hash, length, 8);
    for (int i = 0; i < 64; i++) {
        int digit = hash->state[i / 8] >> (28 - 4 * (i % 8)) & 15;
        hex[i] = L"0123456789ABCDEF"[digit];
    }
    hex[64] = 0;
}

// Everything but the checksum, the certificate table's directory entry and the table itself, padded to 8 bytes.
static int authenticode(const BYTE *file, size_t size, WCHAR *hex) {
    static const BYTE zeros[8];
    struct sha256 hash;
    if (size < 0x40 || file[0] != 'M' || file[1] != 'Z') return 0;
    size_t header = *(const DWORD *)(file + 0x3c);
    if (header > size || size - header < 24 + 240 || memcmp(file + header, "PE\0\0", 4)) return 0;
    size_t optional = header + 24, checksum = optional + 64;
    size_t directory = optional + (*(const WORD *)(file + optional) == 0x20b ? 144 : 128);
    size_t table = *(const DWORD *)(file + directory), table_size = *(const DWORD *)(file + directory + 4);
    if (!table) table = size;
    if (table < directory + 8 || table > size || table_size > size - table) return 0;
    sha256_begin(&hash);
    sha256_add(&hash, file, checksum);
    sha256_add(&hash, file + checksum + 4, directory - checksum - 4);
    sha256_add(&hash, file + directory + 8, table - directory - 8);
    if (table % 8) sha256_add(&hash, zeros, 8 - table % 8);
    sha256_add(&hash, file + table + table_size, size - table - table_size);
    sha256_hex(&hash, hex);
    return 1;
}
#endif
