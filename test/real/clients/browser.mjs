// Headless Chromium, driven by playwright-core. MCPHUB_CHROMIUM names the program.
import { chromium } from "playwright-core";

export function launch() {
  return chromium.launch({
    executablePath: process.env.MCPHUB_CHROMIUM,
    args: ["--no-sandbox"], // root has none, and the pages are our own
  });
}
