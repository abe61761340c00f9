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
  const report = process.report?.getReport() as unknown as Report | undefined;
  return report?.header?.glibcVersionRuntime === undefined ? 'musl' : 'gnu';
}
