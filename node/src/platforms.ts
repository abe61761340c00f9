// The platforms that there are packages for.

/** Names as in `@mullama/linux-x64-gnu`. */
export const SUPPORTED: readonly string[] = ['linux-x64-gnu', 'linux-arm64-gnu', 'darwin-arm64', 'darwin-x64', 'win32-x64-msvc'];

interface Report {
  header?: { glibcVersionRuntime?: string };
}

/** The package with the native module for this machine; undefined if there is none. */
export function packageName(): string | undefined {
  const base = `${process.platform}-${process.arch}`;
  const platform = process.platform === 'linux' ? `${base}-${libc()}` : process.platform === 'win32' ? `${base}-msvc` : base;
  return SUPPORTED.includes(platform) ? `@mullama/${platform}` : undefined;
}

function libc(): 'gnu' | 'musl' {
  const reports = process.report as { excludeNetwork?: boolean; getReport(): object } | undefined;
  if (reports === undefined) return 'musl';
  const before = reports.excludeNetwork;
  // Otherwise the report has the names of all peers, for which the process would wait.
  if (before !== undefined) reports.excludeNetwork = true;
  try {
    const report = reports.getReport() as Report;
    return report.header?.glibcVersionRuntime === undefined ? 'musl' : 'gnu';
  } finally {
    if (before !== undefined) reports.excludeNetwork = before;
  }
}
