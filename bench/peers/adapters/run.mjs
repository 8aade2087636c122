// Drives BullMQ from Node with the verbs of run.py: `node run.mjs VERB ...`.
// Node, one process; completed jobs kept; stalled ones are looked for every 30 s.
import { openSync, statSync, writeSync } from "node:fs";
import { createRequire } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";

const require = createRequire(process.env.BENCH_MODULES + "/");
const { Queue, Worker } = require("bullmq");

const TEXT = "x".repeat(100);
const BATCH = 500;
const PAUSE_MS = 20;
const PATIENCE_MS = 10_000;
const at = new URL(process.env.BENCH_REDIS);
const connection = { host: at.hostname, port: Number(at.port), maxRetriesPerRequest: null };

// ---- the tally, as in tally.py

const every = Number(process.env.BENCH_EVERY ?? 1);
const last = Number(process.env.BENCH_TASKS ?? 0);
const file = process.env.BENCH_TALLY ? openSync(process.env.BENCH_TALLY, "a") : null;
let kept = "";
let done = 0;

function did(number) {
  kept += String(number).padStart(15, "0") + "\n";
  done += 1;
  if (done % every === 0 || done === last) {
    writeSync(file, kept);
    kept = "";
  }
}

const nowMs = () => performance.timeOrigin + performance.now();

// ---- the tasks

const tasks = {
  noop: async (argument) => did(typeof argument === "number" ? argument : 0),
  sleep10: async (number) => { await sleep(10); did(number); },
  nap: async (number) => { await sleep(200); did(number); },
  stamp: async (sentMs) => did(Math.round((nowMs() - sentMs) * 1e6)),
};

// ---- the verbs

async function withQueue(run) {
  const queue = new Queue("bench", { connection });
  try {
    await queue.waitUntilReady();
    return await run(queue);
  } finally {
    await queue.close();
  }
}

async function timed(run) {
  const began = performance.now();
  await run();
  return (performance.now() - began) / 1000;
}

const verbs = {
  worker: async (concurrency) => {
    new Worker("bench", (job) => tasks[job.name](job.data.argument), { connection, concurrency: Number(concurrency) });
    await new Promise(() => {});
  },
  fill: (task, n) => withQueue(async (queue) => {
    for (let first = 1; first <= n; first += BATCH) {
      const count = Math.min(BATCH, n - first + 1);
      await queue.addBulk(Array.from({ length: count }, (_, i) => ({ name: task, data: { argument: first + i } })));
    }
    return n;
  }),
  single: (n) => withQueue((queue) => timed(async () => {
    for (let i = 0; i < n; i += 1) await queue.add("noop", { argument: TEXT });
  })),
  bulk: (n) => withQueue((queue) => timed(async () => {
    const batch = Array.from({ length: BATCH }, () => ({ name: "noop", data: { argument: TEXT } }));
    for (let i = 0; i < n; i += BATCH) await queue.addBulk(batch);
  })),
  latency: (n) => withQueue(async (queue) => {
    for (let number = 1; number <= n; number += 1) {
      await queue.add("stamp", { argument: nowMs() });
      const giveUp = nowMs() + PATIENCE_MS;
      while (statSync(process.env.BENCH_TALLY).size < 16 * number) {
        if (nowMs() > giveUp) throw new Error(`task ${number} did not start within ${PATIENCE_MS} ms`);
        await sleep(1);
      }
      await sleep(PAUSE_MS);
    }
    return n;
  }),
};

const [verb, ...words] = process.argv.slice(2);
console.log(await verbs[verb](...words));
process.exit(0);
