// The loop between the test and a client. The test writes one command a line to
// standard input, {"do": "connect", "with": {...}}, and reads one answer a line:
// {"result": ...} or {"error": "..."}. The end of the input closes the client.
import { createInterface } from "node:readline";

// Libraries that log must not write between the answers.
console.log = console.info = console.debug = console.error;

export async function drive(client) {
  for await (const line of createInterface({ input: process.stdin })) {
    const command = JSON.parse(line);
    process.stdout.write(JSON.stringify(await answer(client, command)) + "\n");
  }
  await client.close();
  process.exit(0); // some clients leave timers behind
}

async function answer(client, command) {
  try {
    return { result: (await client[command.do](command.with)) ?? null };
  } catch (error) {
    return { error: describe(error) };
  }
}

function describe(error) {
  let text = String(error?.message ?? error);
  for (let cause = error?.cause; cause; cause = cause.cause) {
    text += ": " + (cause.message ?? cause.code ?? cause);
  }
  return text.replace(/\x1b\[[0-9;]*m/g, "").split(/\s+/).join(" ").slice(0, 400);
}
