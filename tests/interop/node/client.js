// A client with amqplib: node client.js URL (direct|queue) BODY…
//
// direct: RabbitMQ's direct reply-to. queue: an exclusive callback queue, as in the tutorial.
// Prints one line of JSON for each reply: its body, type and headers.

const amqp = require("amqplib");
const { randomUUID } = require("crypto");

async function main(url, way, bodies) {
  const connection = await amqp.connect(url);
  const channel = await connection.createChannel();
  const replyTo =
    way === "direct" ? "amq.rabbitmq.reply-to" : (await channel.assertQueue("", { exclusive: true })).queue;
  const waiting = new Map();
  const onReply = (message) => waiting.get(message.properties.correlationId)?.(message);
  await channel.consume(replyTo, onReply, { noAck: true });

  for (const body of bodies) {
    const correlationId = randomUUID();
    const reply = await new Promise((resolve) => {
      waiting.set(correlationId, resolve);
      channel.sendToQueue("rpc_queue", Buffer.from(body), { correlationId, replyTo });
    });
    const { type, headers } = reply.properties;
    console.log(JSON.stringify({ body: reply.content.toString(), type, headers }));
  }
  await connection.close();
}

const [url, way, ...bodies] = process.argv.slice(2);
main(url, way, bodies).catch((error) => {
  console.error(error);
  process.exit(1);
});
