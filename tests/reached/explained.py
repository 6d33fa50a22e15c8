"""Lines that no test on this machine reaches, by their text, and why. One that opens a block stands for its block."""

from __future__ import annotations

AMX = "only a processor with AMX runs it"
EXPLAINED: dict[str, str] = {
    "return syscall(SYS_arch_prctl, kAskForComponent, kTileData) == 0;": AMX,
    "inline void configure_tiles() {": AMX,
    "inline void release_tiles() {": AMX,
    "inline void multiply_amx_bfloat16(const BFloat16Block& block) {": AMX,
}
