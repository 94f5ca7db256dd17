// Run a notebook's code in Pyodide under Node: node in_pyodide.mjs FOLDER NOTEBOOK
//
// FOLDER holds Pyodide and its lock. Packages are loaded as JupyterLite does, by what a cell
// imports. The last line printed is JSON: seconds, those of the processor too, the first cell that
// failed with its error, and what cells wrote to standard error.
import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

const folder = path.resolve(process.argv[2]) + path.sep;
const notebook = JSON.parse(fs.readFileSync(process.argv[3], "utf-8"));
const { loadPyodide } = await import(pathToFileURL(folder + "pyodide.mjs"));

const start = performance.now();
const seconds = () => (performance.now() - start) / 1000;
const errors = [];
const python = await loadPyodide({
  indexURL: folder,
  packageBaseUrl: folder,
  lockFileURL: folder + "pyodide-lock.json",
  env: { HOME: "/home/pyodide", MPLBACKEND: "agg" },
  stdout: () => {},
  stderr: (line) => errors.push(line),
});
const quiet = { messageCallback: () => {} };
await python.loadPackage(["ipython"], quiet); // the kernel has it before the first cell
const report = { ready: seconds(), cells: 0, slowest: ["", 0], failed: null };
for (const cell of notebook.cells.filter((cell) => cell.cell_type === "code")) {
  const code = [cell.source].flat().join("");
  const before = seconds();
  try {
    await python.loadPackagesFromImports(code, quiet);
    await python.runPythonAsync(code);
  } catch (error) {
    report.failed = { cell: cell.id, error: String(error.message ?? error) };
    break;
  }
  report.cells += 1;
  const took = seconds() - before;
  if (took > report.slowest[1]) report.slowest = [cell.id, took];
}
const { user, system } = process.cpuUsage();
console.log(JSON.stringify({ ...report, total: seconds(), cpu: (user + system) / 1e6, errors }));
