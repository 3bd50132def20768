// Drives headless Chromium by playwright-core: reads one JSON command a line, writes one JSON answer a line.
// Usage: node browser.mjs NODE_MODULES CHROMIUM PROFILE_FOLDER [FLAG ...]
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import path from "node:path";

const [modules, executablePath, profile, ...flags] = process.argv.slice(2);
const { chromium } = createRequire(path.resolve(modules, "from.js"))("playwright-core");
const context = await chromium.launchPersistentContext(profile, {
  executablePath,
  args: [
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    ...flags,
  ],
});
const page = context.pages()[0] ?? (await context.newPage());
const messages = [];
const requests = [];
page.on("console", (message) => messages.push(`${message.type()}: ${message.text()}`));
page.on("pageerror", (error) => messages.push(`pageerror: ${error.message}`));
page.on("request", (request) => requests.push(request.url()));

const commands = {
  open: async ({ url }) => void (await page.goto(url)),
  evaluate: ({ script, argument }) =>
    page.evaluate(([text, given]) => new Function("given", `return (async () => { ${text} })()`)(given), [script, argument]),
  wait: async ({ selector, timeout }) => void (await page.waitForSelector(selector, { timeout })),
  click: async ({ selector }) => void (await page.click(selector)),
  press: async ({ key }) => void (await page.keyboard.press(key)),
  choose: async ({ selector, paths }) => void (await page.setInputFiles(selector, paths)),
  select: async ({ selector, value }) => void (await page.selectOption(selector, value)),
  look: async ({ width, height, dark }) => {
    await page.setViewportSize({ width, height });
    await page.emulateMedia({ colorScheme: dark ? "dark" : "light" });
  },
  screenshot: async ({ path: file, whole }) => void (await page.screenshot({ path: file, fullPage: whole })),
  messages: () => messages.splice(0),
  requests: () => requests.splice(0),
  version: () => context.browser()?.version() ?? page.evaluate(() => navigator.userAgent),
};

process.stdout.write("ready\n");
for await (const line of createInterface({ input: process.stdin })) {
  const { name, ...options } = JSON.parse(line);
  let answer;
  try {
    answer = { result: (await commands[name](options)) ?? null };
  } catch (error) {
    answer = { error: String(error.message ?? error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await context.close();
