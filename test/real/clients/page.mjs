// A client of the TypeScript SDK inside a page in headless Chromium: the browser
// sends the requests, from the page's origin to that of the hub.
//
//   node page.mjs CLIENT    the file that exports the client, for example sdk1.mjs
import { createServer } from "node:http";
import { fileURLToPath } from "node:url";
import { rolldown } from "rolldown";
import { launch } from "./browser.mjs";
import { drive } from "./drive.mjs";

let server;
let browser;
let page;

// bundle returns the script of the page: the client as window.client.
async function bundle(file) {
  const source = new URL(file, import.meta.url);
  const entry = "entry";
  const built = await rolldown({
    input: entry,
    platform: "browser",
    plugins: [
      {
        name: "entry",
        resolveId: (id) => (id === entry ? id : undefined),
        load: (id) =>
          id === entry
            ? `import * as made from ${JSON.stringify(fileURLToPath(source))};
               window.client = Object.values(made)[0]();`
            : undefined,
      },
    ],
  });
  const { output } = await built.generate({ format: "esm" });
  return output[0].code;
}

// serve serves the page at its address.
async function serve(address, script) {
  const [host, port] = address.split(":");
  server = createServer((request, response) => {
    const isScript = request.url === "/script.js";
    response.setHeader("Content-Type", isScript ? "text/javascript" : "text/html");
    response.end(isScript ? script : `<!doctype html><script type="module" src="/script.js"></script>`);
  });
  await new Promise((resolve) => server.listen(Number(port), host, resolve));
}

// inPage calls a method of the client in the page.
const inPage = (method) => (argument) =>
  page.evaluate(([method, argument]) => window.client[method](argument), [method, argument]);

await drive({
  async connect({ url, root, addresses }) {
    await serve(addresses[0], await bundle(process.argv[2]));
    browser = await launch();
    page = await browser.newPage();
    page.on("console", (message) => console.error(message.text()));
    page.on("pageerror", (error) => console.error(error));
    await page.goto(`http://${addresses[0]}/`);
    await page.waitForFunction(() => window.client);
    return inPage("connect")({ url, root });
  },
  list: inPage("list"),
  call: inPage("call"),
  async close() {
    await browser?.close();
    server?.close();
  },
});
