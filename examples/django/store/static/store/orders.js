/** The orders of one user, from JSON. */
import { bell, listen } from './live.js';

const list = document.querySelector('#orders');
const template = document.querySelector('#order-template');

function show(order) {
  let item = document.querySelector(`#order-${order.id}`);
  if (!item) {
    item = template.content.firstElementChild.cloneNode(true);
    item.id = `order-${order.id}`;
    item.querySelector('b').textContent = order.item;
    item.querySelector('.number').textContent = `Order ${order.id}`;
    list.prepend(item);
  }
  item.dataset.step = order.step;
  item.querySelector('.status').textContent = order.status;
}

listen(document.body.dataset.events, { ...bell, order: show });
