// Loaded before a server that would listen on all addresses: it listens on loopback.
import { Server } from "node:net";

const listen = Server.prototype.listen;

Server.prototype.listen = function (port, ...rest) {
  const all = ["number", "string"].includes(typeof port) && typeof rest[0] !== "string";
  return listen.call(this, port, ...(all ? ["127.0.0.1"] : []), ...rest);
};
