// LangChain's MultiServerMCPClient, @langchain/mcp-adapters. It lists tools only, and
// cannot be asked.
import { MultiServerMCPClient } from "@langchain/mcp-adapters";
import { drive } from "./drive.mjs";

let client;
let tools;

await drive({
  async connect({ url }) {
    client = new MultiServerMCPClient({
      mcpServers: { hub: { transport: "http", url } },
      prefixToolNameWithServerName: false,
      throwOnLoadError: true,
    });
    await client.initializeConnections();
    return { name: "mcphub" };
  },
  async list() {
    tools = await client.getTools();
    return { tools: tools.map((tool) => tool.name) };
  },
  async call({ name, arguments: args }) {
    const tool = tools?.find((tool) => tool.name === name);
    if (!tool) {
      throw new Error("there is no tool " + name);
    }
    const result = await tool.invoke(args);
    return typeof result === "string" ? result : JSON.stringify(result);
  },
  close: () => client?.close(),
});
