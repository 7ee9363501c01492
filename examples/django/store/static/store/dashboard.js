/** Counts and moves. Both start from what the page came with, so an event that was missed or came twice would show for good. */
import { bell, listen } from './live.js';

const { counts, moves, past } = JSON.parse(document.querySelector('#start').textContent);
const bars = document.querySelector('#bars');
const chart = document.querySelector('#moves');
const rate = document.querySelector('#rate');
const SLOTS = 40;
const GAP = 3;

function drawCounts() {
  const most = Math.max(1, ...Object.values(counts));
  for (const [status, count] of Object.entries(counts)) {
    const bar = bars.querySelector(`[data-status="${status}"]`);
    bar.querySelector('b').textContent = String(count);
    bar.querySelector('i').style.setProperty('--share', String(count / most));
  }
}

function drawMoves() {
  const now = Date.now();
  while (moves.length > 0 && moves[0] < now - past * 1000) moves.shift();
  const slots = new Array(SLOTS).fill(0);
  for (const moment of moves) {
    // Clocks differ: what is of the future here counts as now.
    const age = Math.max(0, (now - moment) / 1000);
    slots[Math.max(0, SLOTS - 1 - Math.floor((age / past) * SLOTS))] += 1;
  }
  const most = Math.max(4, ...slots);
  const width = 480 / SLOTS;
  chart.innerHTML = slots
    .map((n, i) => {
      const height = Math.max(2, (n / most) * 112);
      return `<rect x="${i * width + GAP / 2}" y="${120 - height}" width="${width - GAP}" height="${height}" rx="1.5" class="${n ? '' : 'none'}"/>`;
    })
    .join('');
  rate.textContent = `${moves.length} moves`;
}

listen(document.body.dataset.events, {
  ...bell,
  move({ from, to }) {
    if (from) counts[from] -= 1;
    counts[to] += 1;
    moves.push(Date.now());
    drawCounts();
    drawMoves();
  },
});
drawCounts();
drawMoves();
setInterval(drawMoves, 1000);
