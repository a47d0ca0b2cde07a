/* Hides VNNI and AMX from a program, so that onnxruntime runs the int8 kernels of an older CPU at full speed.

   gcc -O2 -shared -fPIC scripts/without_vnni.c -o without_vnni.so
   LD_PRELOAD=./without_vnni.so             compressbert evaluate ...    as on AVX-512 without VNNI
   LD_PRELOAD=./without_vnni.so HIDE=avx512 compressbert evaluate ...    as on AVX2

   Linux on x86-64 with CPUID faulting (`grep cpuid_fault /proc/cpuinfo`): the kernel then raises SIGSEGV at each
   CPUID instruction, and the handler answers with the real values less the hidden bits. */

#define _GNU_SOURCE
#include <cpuid.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_CPUID_SET 0x1012

static int hide_avx512;

static long set_cpuid(long allowed) { return syscall(SYS_arch_prctl, ARCH_CPUID_SET, allowed); }

static void hide(unsigned leaf, unsigned sub, unsigned *a, unsigned *b, unsigned *c, unsigned *d) {
  if (leaf != 7) return;
  if (sub == 0) {
    *c &= ~(1u << 11);                                /* AVX512_VNNI */
    *d &= ~(1u << 22 | 1u << 24 | 1u << 25);          /* AMX-BF16, AMX-TILE, AMX-INT8 */
    if (hide_avx512) {
      *b &= ~(1u << 16 | 1u << 17 | 1u << 21 | 1u << 28 | 1u << 30 | 1u << 31); /* F, DQ, IFMA, CD, BW, VL */
      *c &= ~(1u << 1 | 1u << 6 | 1u << 12 | 1u << 14);                         /* VBMI, VBMI2, BITALG, VPOPCNTDQ */
      *d &= ~(1u << 23);                                                        /* FP16 */
    }
  } else if (sub == 1) {
    *a &= ~(1u << 4 | 1u << 5);                       /* AVX-VNNI, AVX512-BF16 */
    *d &= ~(1u << 4 | 1u << 10);                      /* AVX-VNNI-INT8, AVX-VNNI-INT16 */
  }
}

static void on_fault(int signal_number, siginfo_t *info, void *context) {
  greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
  const unsigned char *code = (const unsigned char *)registers[REG_RIP];
  unsigned a, b, c, d, leaf = registers[REG_RAX], sub = registers[REG_RCX];
  (void)info;
  if (code[0] != 0x0f || code[1] != 0xa2) { /* not CPUID: a fault of the program itself */
    signal(signal_number, SIG_DFL);
    return;
  }
  set_cpuid(1);
  __cpuid_count(leaf, sub, a, b, c, d);
  set_cpuid(0);
  hide(leaf, sub, &a, &b, &c, &d);
  registers[REG_RAX] = a, registers[REG_RBX] = b, registers[REG_RCX] = c, registers[REG_RDX] = d;
  registers[REG_RIP] += 2;
}

__attribute__((constructor)) static void start(void) {
  const char *wish = getenv("HIDE");
  struct sigaction action;
  hide_avx512 = wish && !strcmp(wish, "avx512");
  memset(&action, 0, sizeof action);
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigaction(SIGSEGV, &action, 0);
  if (set_cpuid(0) != 0) {
    static const char message[] = "without_vnni: this CPU or kernel cannot fault on CPUID\n";
    if (write(2, message, sizeof message - 1) < 0) _exit(126);
    _exit(126);
  }
}
