"""CRC-32C, for tests that write a file of a daemon themselves."""

TABLE = []


def crc32c(data):
    if not TABLE:
        for n in range(256):
            for _ in range(8):
                n = (n >> 1) ^ 0x82F63B78 if n & 1 else n >> 1
            TABLE.append(n)
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 255] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF
