/** Calls every method of tests/every_type.py by its generated client. Prints what went wrong, then "done". */

import { Color, EveryTypeRpcClient, FINGERPRINT, Level, NoSuchItem, OutOfStock } from "./client.js";
import type { Item, Point, Settings, Tree } from "./client.js";
import { Client, DeadlineExceeded, NotSent, RpcError } from "./rpckit.js";

declare const process: { argv: string[] };

function equal(actual: unknown, expected: unknown): void {
  const [one, other] = [JSON.stringify(actual), JSON.stringify(expected)];
  if (one !== other) console.log(`got ${one}, not ${other}`);
}

async function failure(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => console.log("it did not fail"),
    (error) => error,
  );
}

async function values(client: EveryTypeRpcClient): Promise<void> {
  const simple: [number, number, string, boolean] = await client.scalars(1, 1.5, "é", true, "raw", null);
  equal(simple, [1, 1.5, "é", true]);
  equal(await client.scalars(1, 1.5, "é", true, "raw"), simple);
  equal(await client.raw("bytes"), "bytes");
  equal(
    await client.times("2024-05-01T12:00:00Z", "2024-05-01", "12:00:00", "PT1H30M"),
    ["2024-05-01T12:00:00Z", "2024-05-01", "12:00:00", "PT1H30M"],
  );
  const account = "123e4567-e89b-12d3-a456-426614174000";
  equal(await client.money("19.90", account), { [account]: "20.90" });
  equal(await client.anything({ a: [1, null] }), { a: [1, null] });
  equal(await client.anything(), null);
}

async function types(client: EveryTypeRpcClient): Promise<void> {
  const point: Point = await client.paint({ x: 1 });
  equal(point, { x: 2, y: 0 });
  equal(await client.paint({ x: 1, y: 2 }, Color.RED, Level.HIGH), { x: 2, y: 2 });
  const item: Item = { sku: "a", price: "1.10", color: "blue", tags: ["new"] };
  equal(await client.buy([item], { b: item }), item);
  equal(await client.buy([item], {}, 0), null);
  const tree: Tree = { value: 1, children: [{ value: 2, children: [{ value: 3, children: [] }] }] };
  equal(await client.grow(tree), { ...tree, value: 2 });
  const settings: Settings = { name: "n", level: Level.LOW };
  equal(await client.choose("a", { x: 1 }, settings, [1, 1, 2]), settings);
}

async function arguments_(client: EveryTypeRpcClient): Promise<void> {
  equal(await client.delete(1), [1, "no", false]);
  equal(await client.delete(1, "yes", true), [1, "yes", true]);
  equal(await client.keywords(1, 10), 13);
  equal(await client.keywords(1, 10, 5, { 7: "red" }), 16);
  equal(await client.forget(1), undefined);
  equal(await client.call(), "done");
  equal(await client.slow(0), "done");
}

async function errors(client: EveryTypeRpcClient): Promise<void> {
  const sold = await failure(client.buy([], {}, 11));
  equal(sold instanceof OutOfStock && [sold.name, sold.message, sold.data.details], [
    "OutOfStock",
    "only 10 are left, not 11",
    { left: 10 },
  ]);
  equal((await failure(client.buy([], {}))) instanceof NoSuchItem, true);
  const late = await failure(client.slow(20, { timeout: 100 }));
  equal(late instanceof DeadlineExceeded && !(late instanceof OutOfStock), true);
  const invalid = await failure(client.grow({ value: "x" } as unknown as Tree));
  equal(invalid instanceof RpcError && invalid.code, -32602);
}

/** What does not fit is refused by the compiler; each of these lines must be an error. */
export function refused(client: EveryTypeRpcClient): void {
  // @ts-expect-error
  void client.scalars("1", 1.5, "", true, "");
  // @ts-expect-error
  void client.paint({ y: 1 });
  // @ts-expect-error
  void client.paint({ x: 1 }, "green");
  // @ts-expect-error
  void client.nosuch();
  // @ts-expect-error
  void client.slow(1, { retries: 3 });
  // @ts-expect-error
  void client.slow().then((text: number) => text);
}

async function main(url: string): Promise<void> {
  const client = new EveryTypeRpcClient(url, { timeout: 10_000 });
  await values(client);
  await types(client);
  await arguments_(client);
  await errors(client);
  await client.close();
  equal((await failure(client.call())) instanceof NotSent, true);

  const shared = new Client(url);
  const other = new EveryTypeRpcClient(shared);
  equal(await other.call(), "done");
  await other.close();
  equal(shared.state, "connected");
  await shared.close();
  equal(FINGERPRINT.length, 16);
  console.log("done");
}

await main(process.argv[2] ?? "");
