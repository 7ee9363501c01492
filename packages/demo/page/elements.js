/** How a module finds its part of index.html. What the parts show is each module's own affair. */

export const byId = (id) => document.getElementById(id);

/** Returns a fresh copy of the one element in the template. */
export const fromTemplate = (id) => byId(id).content.firstElementChild.cloneNode(true);
