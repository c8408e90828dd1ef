// The chat's page: what the server may call, what the reader does, and nothing kept that the server does not say.
import { Client } from "./rpckit.js";

const $ = (id) => document.getElementById(id);
const MAX_SHOWN = 500; // lines on the page; the oldest leave

let client = null;
let nickname = "";
let since = ""; // the last line that was shown: after a reconnect the server sends what came behind it

function show(line) {
  if (line.id <= since) return;
  since = line.id;
  const item = document.createElement("li");
  const head = document.createElement("b");
  const time = document.createElement("time");
  head.textContent = line.nickname;
  time.textContent = new Date(line.at * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  head.append(time);
  item.append(head, line.text);
  item.classList.toggle("mine", line.nickname === nickname);
  $("lines").append(item);
  while ($("lines").childElementCount > MAX_SHOWN) $("lines").firstElementChild.remove();
  item.scrollIntoView({ block: "end" });
}

function showNames(names) {
  $("names").replaceChildren(
    ...names.map((name) => {
      const item = document.createElement("li");
      item.textContent = name;
      item.classList.toggle("me", name === nickname);
      return item;
    }),
  );
}

function showState(text, lost = false) {
  $("state").textContent = text;
  $("state").classList.toggle("lost", lost);
}

async function join() {
  const joined = await client.call("join", {
    nickname: nickname || $("nickname").value,
    room: $("room").value,
    since,
  });
  nickname = joined.nickname;
  joined.history.forEach(show);
  showNames(joined.who);
  showState(`you are ${nickname}`);
}

async function enter(event) {
  event.preventDefault();
  $("refusal").textContent = "";
  const url = new URL("ws", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  let entered = false;
  client = new Client(url.href, {
    methods: { said: show, who: ({ names }) => showNames(names) },
    onConnect: () => { if (entered) join().catch((error) => showState(error.message, true)); },
    onDisconnect: () => showState("connection lost, trying again", true),
  });
  try {
    await client.ready(5_000);
    await join();
    entered = true;
  } catch (error) {
    $("refusal").textContent = error.message;
    await client.close();
    return;
  }
  $("title").textContent = $("room").value;
  $("entrance").hidden = true;
  $("chat").hidden = false;
  $("text").focus();
}

async function say(event) {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text) return;
  $("text").value = "";
  try {
    await client.call("say", [text]);
  } catch (error) {
    $("text").value = text; // nothing typed is lost
    showState(`not said: ${error.message}`, true);
  }
}

$("entrance").addEventListener("submit", enter);
$("saying").addEventListener("submit", say);
