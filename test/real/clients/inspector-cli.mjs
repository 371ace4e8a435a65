// The command line of the MCP Inspector. Each command is a program run of its own,
// with a session of its own.
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { textOf } from "./answers.mjs";
import { drive } from "./drive.mjs";
import { configure, inspector } from "./inspector.mjs";

async function inspect(method, ...args) {
  const { stdout } = await promisify(execFile)(process.execPath, [
    inspector,
    "--cli",
    "--config",
    "inspector.json",
    "--server",
    "hub",
    "--format",
    "json",
    "--stored-auth-only",
    "--method",
    method,
    ...args,
  ]).catch((error) => {
    throw new Error(error.stderr || error.message);
  });
  return JSON.parse(stdout).result;
}

await drive({
  async connect({ url, root }) {
    await configure(url, root);
    return (await inspect("initialize")).serverInfo;
  },
  async list() {
    const { tools } = await inspect("tools/list");
    const { prompts } = await inspect("prompts/list");
    const { resources } = await inspect("resources/list");
    return {
      tools: tools.map((tool) => tool.name),
      prompts: prompts.map((prompt) => prompt.name),
      resources: resources.map((resource) => resource.uri),
    };
  },
  async call({ name, arguments: args }) {
    return textOf(
      await inspect(
        "tools/call",
        "--tool-name",
        name,
        "--tool-args-json",
        JSON.stringify(args),
      ),
    );
  },
  close() {},
});
