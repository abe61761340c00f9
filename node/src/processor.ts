// Refuses a processor that lacks a feature that the native module was compiled for: the first instruction that is missing
// would end the process without a word.

import { readFileSync } from 'node:fs';

/** What Linux lists in /proc/cpuinfo under the same name as rustc. Only what a compiler emits by itself is compared. */
const SAME_NAMES =
  'adx aes avx avx2 avx512bw avx512cd avx512dq avx512f avx512ifma avx512vbmi avx512vl bmi1 bmi2 f16c fma gfni movbe ' +
  'pclmulqdq popcnt sse sse2 ssse3 vaes vpclmulqdq bf16 fcma flagm i8mm sha2 sha3 sve sve2';

const KERNEL_NAMES: Readonly<Record<string, string>> = {
  ...Object.fromEntries(SAME_NAMES.split(' ').map((name) => [name, name])),
  avx512bf16: 'avx512_bf16', avx512bitalg: 'avx512_bitalg', avx512fp16: 'avx512_fp16', avx512vbmi2: 'avx512_vbmi2',
  avx512vnni: 'avx512_vnni', avx512vp2intersect: 'avx512_vp2intersect', avx512vpopcntdq: 'avx512_vpopcntdq', avxifma: 'avx_ifma',
  avxneconvert: 'avx_ne_convert', avxvnni: 'avx_vnni', avxvnniint8: 'avx_vnni_int8', cmpxchg16b: 'cx16', lzcnt: 'abm',
  sha: 'sha_ni', sse3: 'pni', 'sse4.1': 'sse4_1', 'sse4.2': 'sse4_2',
  // Arm
  crc: 'crc32', dotprod: 'asimddp', fhm: 'asimdfhm', fp16: 'asimdhp', frintts: 'frint', jsconv: 'jscvt', lse: 'atomics',
  neon: 'asimd', rcpc: 'lrcpc', rdm: 'asimdrdm',
};

/** The features, by rustc's names, that the system should list and does not; none if it lists nothing. */
export function missing(compiledFor: readonly string[], listed: string): string[] {
  const present = new Set(listed.split(/\s+/));
  if (listed === '') return [];
  return compiledFor.filter((feature) => {
    const name = KERNEL_NAMES[feature];
    return name !== undefined && !present.has(name);
  });
}

/** What Linux lists; empty elsewhere. */
function listedFeatures(): string {
  try {
    return /^(?:flags|Features)\s*: (.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? '';
  } catch {
    return '';
  }
}

/** Throws if this processor lacks what `file`, which the build wrote, names. */
export function checkProcessor(file: string): void {
  let compiledFor: string[];
  try {
    compiledFor = JSON.parse(readFileSync(file, 'utf8')) as string[];
  } catch {
    return;
  }
  const lacking = missing(compiledFor, listedFeatures());
  if (lacking.length === 0) return;
  throw new Error(
    `mullama was compiled for a processor with ${lacking.join(', ')}, which this one lacks. Build it from source on this ` +
      'machine, or with MULLAMA_PORTABLE=1 in the environment for any x86-64-v3 processor (Intel since 2013, AMD since 2015).',
  );
}
