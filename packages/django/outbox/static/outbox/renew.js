/**
 * Keeps the token of an open page good. {% outbox_script %} writes the element that loads it.
 *
 * Renews at half of the token's time, and at once when a computer that slept is used again. Where nobody is logged in any more
 * it fires `outbox:logged-out` on the document, and stops.
 */
(() => {
  const url = document.currentScript.dataset.tokenUrl;
  let timer;

  async function renew() {
    clearTimeout(timer);
    let seconds = 10;
    try {
      const response = await fetch(url, { credentials: 'same-origin' });
      if (response.status === 401) {
        document.dispatchEvent(new Event('outbox:logged-out'));
        return;
      }
      if (response.ok) seconds = (await response.json()).expires_in / 2;
    } catch {
      // Offline: tried again below, and by the event that ends it.
    }
    timer = setTimeout(renew, seconds * 1000);
  }

  addEventListener('online', renew);
  document.addEventListener('visibilitychange', () => document.hidden || renew());
  renew();
})();
