"""Lines that no test on this machine reaches, by their text, and why. One that opens a block stands for its block."""

from __future__ import annotations

AMX = "only a processor with AMX runs it"
OLDER = "only a processor older than this one takes it by itself; tests choose it by ZFKERNELS_CPU_VARIANT"
EXPLAINED: dict[str, str] = {
    ": avx512                       ? Isa::kAvx512": OLDER,
    ": avx2                         ? Isa::kAvx2": OLDER,
    "return syscall(SYS_arch_prctl, kAskForComponent, kTileData) == 0;": AMX,
    "inline void configure_tiles() {": AMX,
    "inline void release_tiles() {": AMX,
    "const Vector<uint32_t> halves = nan ? (words >> 16) | 0x40u : nearest;": "gcc counts it nowhere",
    "first = _mm512_add_ps(first, _mm512_loadu_ps(block.bias));": "gcc counts it in the AMX kernel alone",
    "inline void multiply_amx(const BFloat16Block& block) {": AMX,
}
