/** The steps to try: each is ticked off once it has been done, and the first that has not is the current one. */
import { byId } from './elements.js';

export function createSteps() {
  const items = [...byId('steps').children];

  function show() {
    const next = items.find((item) => !item.classList.contains('is-done'));
    for (const item of items) {
      if (item === next) item.setAttribute('aria-current', 'step');
      else item.removeAttribute('aria-current');
    }
  }

  show();
  return {
    /** `name` is the step's `data-step`. Harmless to repeat. */
    done(name) {
      const item = items.find(({ dataset }) => dataset.step === name);
      if (item.classList.contains('is-done')) return;
      item.classList.add('is-done');
      const spoken = document.createElement('span');
      spoken.className = 'unseen';
      spoken.textContent = ', done';
      item.append(spoken);
      show();
    },
  };
}
