// The page of the MCP Inspector in headless Chromium. The inspector's own backend is
// the client of the hub; what a person does is done in the page.
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { elicited, sampled } from "./answers.mjs";
import { launch } from "./browser.mjs";
import { drive } from "./drive.mjs";
import { configure, inspector } from "./inspector.mjs";

let backend;
let browser;
let page;

// start runs the inspector on two ports and returns the URL of its page.
async function start(hub, root, [address, sandbox]) {
  await configure(hub, root);
  backend = spawn(
    process.execPath,
    [inspector, "--web", "--config", "inspector.json"],
    {
      env: {
        ...process.env,
        MCP_AUTO_OPEN_ENABLED: "false",
        HOST: "127.0.0.1",
        CLIENT_PORT: address.split(":")[1],
        MCP_SANDBOX_PORT: sandbox.split(":")[1],
      },
      stdio: ["ignore", "pipe", "inherit"],
    },
  );
  for await (const line of createInterface({ input: backend.stdout })) {
    const found = line.match(/http:\/\/\S+TOKEN=\S+/);
    if (found) {
      return found[0];
    }
  }
  throw new Error("the inspector ended");
}

// open goes to one of the page's screens.
const open = (screen) => page.getByText(screen, { exact: true }).first().click();

// items returns the second lines of the buttons in a list: names and URIs.
async function items(screen) {
  await open(screen);
  const names = page.getByRole("main").getByRole("button").locator("p").filter({ hasText: /^real__/ });
  await names.first().waitFor();
  return names.allInnerTexts();
}

// fill writes the arguments of a tool as JSON.
async function fill(args) {
  const json = page.getByRole("switch", { name: "Edit as JSON" });
  if (!(await json.isChecked())) {
    await json.click({ force: true });
  }
  await page.getByRole("textbox", { name: /^Arguments JSON/ }).focus();
  await page.keyboard.press("Control+A");
  await page.keyboard.insertText(JSON.stringify(args));
}

// answer fills in the dialog that a question of the server opens.
async function answer() {
  const sampling = page.getByRole("dialog", { name: "Sampling Request" });
  if (await sampling.isVisible()) {
    await sampling.getByRole("textbox", { name: "Response" }).fill(sampled.content.text);
    await sampling.getByRole("button", { name: "Send Response" }).click();
  }
  const elicitation = page.getByRole("dialog", { name: "Elicitation Request" });
  if (await elicitation.isVisible()) {
    await elicitation.getByRole("textbox", { name: "String", exact: true }).fill(elicited.content.name);
    await elicitation.getByRole("button", { name: "Submit" }).click();
  }
}

await drive({
  async connect({ url, root, addresses }) {
    const address = await start(url, root, addresses);
    browser = await launch();
    page = await browser.newPage({ viewport: { width: 1600, height: 1200 } });
    page.setDefaultTimeout(30_000);
    await page.goto(address);
    await page.getByRole("switch", { name: /Connect or disconnect/ }).check({ force: true });
    await page.getByRole("main").getByText("Connected", { exact: true }).waitFor();
    return { name: "mcphub" };
  },
  async list() {
    return { tools: await items("Tools") };
  },
  async call({ name, arguments: args }) {
    await open("Tools");
    const earlier = page.getByRole("button", { name: "Close results" });
    if (await earlier.isVisible()) {
      await earlier.click();
    }
    await page
      .getByRole("button")
      .filter({ has: page.getByText(name, { exact: true }) })
      .click();
    if (Object.keys(args).length > 0) {
      await fill(args);
    }
    await page.getByRole("button", { name: "Execute Tool" }).click();
    const results = page.getByRole("heading", { name: "Results" });
    await results.or(page.getByRole("dialog")).first().waitFor();
    await answer();
    await results.waitFor();
    const text = await page.getByRole("main").innerText();
    return text.slice(text.lastIndexOf("Results"));
  },
  async close() {
    await browser?.close();
    backend?.kill();
  },
});
