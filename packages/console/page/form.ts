/** What was typed into forms. */

/** Without blanks around it. */
export function typed(form: HTMLFormElement, name: string): string {
  const value = new FormData(form).get(name);
  return typeof value === 'string' ? value.trim() : '';
}

/** Splits what a field of channels holds, at spaces and commas. */
export const parseChannels = (text: string): string[] => text.split(/[\s,]+/).filter(Boolean);
