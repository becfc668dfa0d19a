// An HTTP proxy that is a day's trouble in five minutes: passes everything on, but from second 60 to 75 answers every bulk
// request with 429, from 110 to 130 cuts every connection, and from 170 to 178 answers with 503.
//   node trouble.mjs PORT TARGET
import { createServer, request } from 'node:http';

const [port, target] = process.argv.slice(2);
const began = Date.now();
const between = (from, to) => { const s = (Date.now() - began) / 1000; return s >= from && s < to; };
const refuse = (answer, status, type) => {
  answer.writeHead(status, { 'content-type': 'application/json' });
  answer.end(JSON.stringify({ error: { type, reason: 'a part of the story' }, status }));
};

createServer((asked, answer) => {
  if (between(110, 130)) return asked.socket.destroy();
  const isBulk = asked.url.includes('_bulk');
  if (isBulk && between(60, 75)) { asked.resume(); return refuse(answer, 429, 'es_rejected_execution_exception'); }
  if (isBulk && between(170, 178)) { asked.resume(); return refuse(answer, 503, 'cluster_block_exception'); }
  const { hostname, port: to } = new URL(target);
  const passed = request({ hostname, port: to, method: asked.method, path: asked.url, headers: asked.headers }, (got) => {
    answer.writeHead(got.statusCode, got.headers);
    got.pipe(answer);
  });
  passed.on('error', () => asked.socket.destroy());
  asked.pipe(passed);
}).listen(Number(port), '127.0.0.1');
