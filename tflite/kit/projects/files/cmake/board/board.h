/* Where the texts of the self-test go. */
#ifndef BOARD_H_
#define BOARD_H_

#ifdef __cplusplus
extern "C" {
#endif

void board_write(const char* text);

#ifdef __cplusplus
}
#endif

#endif /* BOARD_H_ */
