// Writes panel/static/vendor/ from manifest.json. Called by ../vendor.sh; see docs/decisions/0003-vendored-assets.md.
// Arguments: WORK (scratch folder), OUT (panel/static/vendor).
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { aloneIn, purge } from "./purge.mjs";

const [work, out] = process.argv.slice(2);
const here = dirname(fileURLToPath(import.meta.url));
const manifest = JSON.parse(readFileSync(join(here, "manifest.json"), "utf8"));
const record = [];
const folders = new Map(); // package name: where it is unpacked

/** Fetch NAME@VERSION, refuse it unless its sha512 is the manifest's, unpack it; returns the folder. */
function fetchPackage({ name, version, integrity }) {
  const quiet = { cwd: work, stdio: ["ignore", "pipe", "ignore"], encoding: "utf8" };
  const file = execFileSync("npm", ["pack", "--silent", `${name}@${version}`], quiet).trim().split("\n").pop();
  const archive = join(work, file);
  const got = "sha512-" + createHash("sha512").update(readFileSync(archive)).digest("base64");
  if (got !== integrity) throw new Error(`${name}@${version}: integrity is ${got}, the manifest says ${integrity}`);
  const folder = archive.replace(/\.tgz$/, "");
  mkdirSync(folder);
  execFileSync("tar", ["xzf", archive, "-C", folder, "--strip-components=1"]);
  return folder;
}

/** Drop source map pointers, and fail on anything the browser would fetch from elsewhere. */
function clean(text, name) {
  const bare = text.replace(/\n?\/\*# sourceMappingURL=[^*]*\*\/|\n?\/\/# sourceMappingURL=\S*/g, "");
  if (name.endsWith(".css")) {
    const remote = bare.match(/@import[^;]*|url\((?!\s*["']?(?:data:image\/|#))[^)]{0,80}/i);
    if (remote || /@font-face/i.test(bare)) throw new Error(`${name} loads something: ${remote?.[0] ?? "@font-face"}`);
  }
  return bare;
}

/** One <symbol> per used icon; colour, size and stroke width come from CSS on the <svg> that uses it. */
function sprite(folder, icons) {
  const symbols = [...icons].sort().map((icon) => {
    const svg = readFileSync(join(folder, "icons/outline", `${icon}.svg`), "utf8");
    const body = svg.replace(/^[\s\S]*?<svg[^>]*>|<\/svg>\s*$/g, "").replace(/<path stroke="none"[^>]*\/>/g, "");
    return `<symbol id="${icon}" viewBox="0 0 24 24">${body.replace(/\s*\n\s*/g, "").replace(/ \/>/g, "/>")}</symbol>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg">\n${symbols.join("\n")}\n</svg>\n`;
}

/** `uses`: packages fetched before that the entry imports by name; `inject`: a file whose exports stand for globals of theirs. */
function bundle(folder, esbuild, { entry, banner, uses = [], inject = "", minify = true }) {
  for (const own of [entry, inject].filter(Boolean)) copyFileSync(join(here, own), join(folder, own));
  const flags = ["--bundle", "--format=esm", "--target=es2022", "--legal-comments=inline", `--banner:js=${banner}`,
    ...uses.map((name) => `--alias:${name}=${folders.get(name)}`)];
  if (minify) flags.push("--minify");
  if (inject) flags.push(`--inject:./${inject}`);
  return execFileSync(esbuild, [entry, ...flags], { cwd: folder, encoding: "utf8", maxBuffer: 1 << 25 });
}

let built = null;
function tool() {
  if (built) return built;
  const wanted = manifest.tools[process.arch];
  if (!wanted) throw new Error(`no esbuild pinned for ${process.arch}: add it to manifest.json`);
  const binary = join(fetchPackage(wanted), "bin/esbuild");
  chmodSync(binary, 0o755);
  return (built = binary);
}

function licenceText(folder, pkg, short) {
  const own = join(here, "licences", `${short}.txt`);
  const parts = pkg.licence_file ? [join(folder, pkg.licence_file)] : [own];
  for (const more of pkg.licence_more ?? []) parts.push(join(folder, more));
  return parts.filter(existsSync).map((path) => readFileSync(path, "utf8").trim()).join("\n\n----------\n\n") + "\n";
}

rmSync(out, { recursive: true, force: true });
mkdirSync(join(out, "licences"), { recursive: true });
for (const pkg of manifest.packages) {
  console.log(`${pkg.name} ${pkg.version}`);
  const folder = fetchPackage(pkg);
  folders.set(pkg.name, folder);
  const short = pkg.name.replace(/^@/, "").replace(/\//, "-").replace("novnc-novnc", "novnc").replace("xterm-xterm", "xterm").replace("spice-project-", "");
  const written = {};
  const write = (name, text) => {
    writeFileSync(join(out, name), text);
    written[name] = createHash("sha256").update(text).digest("hex");
  };
  for (const { from, to, purge: less } of pkg.files ?? []) {
    const whole = clean(readFileSync(join(folder, from), "utf8"), to);
    if (less) writeFileSync(join(here, "classes.txt"), aloneIn(whole).join("\n") + "\n");
    write(to, less ? purge(whole, join(here, "../..")) : whole);
  }
  if (pkg.sprite) write(pkg.sprite.to, sprite(folder, pkg.sprite.icons));
  if (pkg.bundle) write(pkg.bundle.to, bundle(folder, tool(), pkg.bundle));
  write(`licences/${short}.txt`, licenceText(folder, pkg, short));
  record.push({ name: pkg.name, version: pkg.version, licence: pkg.licence, files: written });
}
writeFileSync(join(out, "VENDOR.json"), JSON.stringify(record, null, 2) + "\n");
