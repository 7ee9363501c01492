/** Forms that change what the stream will show: the page stays, and what they did arrives as any other event. */
for (const form of document.querySelectorAll('form[data-quiet]')) {
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const response = await fetch(form.action, {
      method: 'POST',
      body: new FormData(form),
      headers: { 'X-Requested-With': 'fetch' },
      redirect: 'manual',
    }).catch(() => undefined);
    // A redirect has something to say, as that the card was refused.
    if (response?.type === 'opaqueredirect') location.reload();
    else form.reset();
  });
}
