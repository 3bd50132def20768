// Copies LiteRT.js from node_modules/ to litert/, the only part of it that the page needs. npm runs it after an install.

import { copyFile, mkdir } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { readFile } from "node:fs/promises";

const here = path.dirname(fileURLToPath(import.meta.url));
const { litert } = JSON.parse(await readFile(path.join(here, "package.json"), "utf8"));
for (const [to, from] of Object.entries(litert)) {
  const target = path.join(here, "litert", to);
  await mkdir(path.dirname(target), { recursive: true });
  await copyFile(path.join(here, "node_modules", from), target);
}
console.log(`litert/: ${Object.keys(litert).length} files`);
