// mcp-remote between a client of the TypeScript SDK v1 that speaks stdio, and the hub.
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { fileURLToPath } from "node:url";
import { drive } from "./drive.mjs";
import { sdk1 } from "./sdk1.mjs";

const proxy = fileURLToPath(
  new URL("../node_modules/mcp-remote/dist/proxy.js", import.meta.url),
);

await drive(
  sdk1(
    (url) =>
      new StdioClientTransport({
        command: process.execPath,
        args: [proxy, url, "--transport", "http-only"],
        env: process.env,
        stderr: "inherit",
      }),
  ),
);
